"""The HTTP door: routes over the workflows; it decides nothing and knows no store, backend or job."""
