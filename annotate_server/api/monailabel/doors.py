"""All doors of this dialect: those that everybody may knock at, and those for whoever is signed in."""

from annotate_server.api.monailabel import (
    batch,
    dataset,
    datastore,
    inference,
    logs,
    models,
    scoring,
    server,
    training,
)

OPEN = server.open_router
DOORS = tuple(each.router for each in (server, datastore, dataset, inference, batch, training, scoring, models, logs))
