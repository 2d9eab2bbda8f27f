"""The learning loop in the browser: pages that the server writes, for whoever is signed in."""
