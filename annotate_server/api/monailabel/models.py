"""`/model`: which version answers, and its weights for who may have them."""

from pathlib import Path

from fastapi import HTTPException, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from annotate_server.api.files import parts_of
from annotate_server.api.monailabel.archive import zipped
from annotate_server.api.monailabel.desk import AtDesk, new_router
from annotate_server.api.monailabel.progress import TrainStats
from annotate_server.api.v1.documented import ModelName
from annotate_server.api.who import Admin, Anybody
from annotate_server.domain.errors import NotFound

router = new_router()


@router.get("/model/info/{model}")
def get_info(request: Request, model: ModelName, desk: AtDesk, person: Anybody) -> Response:
    """Return the version of a model that answers; the checksum is that of its weights where they are one file."""
    version = desk.services.registry.champion(model)
    digests = [weight.sha256 for weight in version.app.weights if weight.name in version.files]
    checksum = f"SHA256:{digests[0]}" if len(digests) == 1 else f"VERSION:{version.id}"
    changed = [int(path.stat().st_mtime) for path in version.files.values()]
    stats: TrainStats = request.app.state.train_stats
    words = {"checksum": checksum, "modified_time": max(changed, default=0), "train_stats": stats.of(model)}
    return JSONResponse(words)


@router.get("/model/{model}")
def get_weights(model: ModelName, desk: AtDesk, person: Admin) -> Response:
    """Return the weights of the version that answers: the file, or several as one archive."""
    version = desk.services.registry.champion(model)
    files = dict(version.files)
    if not files:
        raise NotFound("the model has no weights", source=model)
    if len(files) == 1:
        ((name, path),) = files.items()
        return FileResponse(path, filename=f"{model}{''.join(Path(name).suffixes[-1:])}")
    headers = {"Content-Disposition": f'attachment; filename="{model}.zip"'}
    content = zipped((name, parts_of(path.open("rb"))) for name, path in files.items())
    return StreamingResponse(content, media_type="application/zip", headers=headers)


@router.put("/model/{model}")
async def put_weights(model: ModelName, person: Admin) -> Response:
    """Say how models come."""
    raise HTTPException(501, "Weights come with a description and a digest: `annotate models pull` or `import`.")


@router.delete("/model/{model}")
async def delete_weights(model: ModelName, person: Admin) -> Response:
    """Say that versions stay."""
    raise HTTPException(409, "Versions of a model stay: `annotate models rollback` lets an older one answer.")
