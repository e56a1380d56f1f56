"""POST /v1/images/generations, edits and variations."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from fastapi import APIRouter, Request
from PIL import Image
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sync_r1.serve import pictures
from sync_r1.serve.batching import Job
from sync_r1.serve.drawing import Draw, Drawn, Partial, Way
from sync_r1.serve.errors import bad_request, from_validation, json_response
from sync_r1.serve.options import MAX_PICTURE_BYTES
from sync_r1.serve.replies import Event, result_of, sse, streamed
from sync_r1.serve.schemas import DrawRequest, EditRequest, PictureRequest, StreamedPicture, VariationRequest
from sync_r1.serve.state import State, state_of

MAX_FIELDS = 40
MAX_FILES = 4
IMAGE_NAMES = ("image", "image[]")

Form = TypeVar("Form", bound=PictureRequest)
Files = Mapping[str, list[bytes]]

router = APIRouter()


@router.post("/v1/images/generations")
async def generate(body: DrawRequest, request: Request) -> Response:
    """Draw pictures as a prompt says."""
    rewrite = body.rewrite
    if rewrite is None:
        rewrite = state_of(request).options.rewrite
    draw = draw_of(body, "draw", prompt=body.prompt, rewrite=rewrite, **streaming(body))
    return await drawn(request, body, draw)


@router.post("/v1/images/edits", openapi_extra={"requestBody": {"content": {"multipart/form-data": {}}}})
async def edit(request: Request) -> Response:
    """Draw the transparent part of a mask again; every other pixel of the picture stays as it is."""
    body, files = await read_form(request, EditRequest, ("mask",))
    picture, mask = await run_in_threadpool(masked_picture, files)
    return await drawn(
        request, body, draw_of(body, "edit", prompt=body.prompt, picture=picture, mask=mask, **streaming(body))
    )


@router.post("/v1/images/variations", openapi_extra={"requestBody": {"content": {"multipart/form-data": {}}}})
async def vary(request: Request) -> Response:
    """Draw a random share of a picture again, another share for every picture."""
    body, files = await read_form(request, VariationRequest)
    picture = await run_in_threadpool(pictures.decode, only_picture(files), "image")
    return await drawn(request, body, draw_of(body, "vary", prompt=body.prompt, picture=picture, share=body.share))


def draw_of(body: PictureRequest, way: Way, **more: Any) -> Draw:
    """The request with a seed per picture; without `seed` they differ every time."""
    first = body.seed
    if first is None:
        first = random.getrandbits(32)
    return Draw(
        model=body.model,
        way=way,
        seeds=tuple(range(first, first + (body.n or 1))),
        size=body.size,
        steps=body.steps,
        guidance=body.guidance,
        temperature=body.temperature,
        **more,
    )


def streaming(body: StreamedPicture) -> dict[str, int]:
    """How many previews to draw. ApiError for several pictures in a stream."""
    if not body.stream:
        return {}
    if (body.n or 1) > 1:
        raise bad_request("n must be 1 where stream is true", "n")
    return {"partials": body.partial_images or 0}


async def drawn(request: Request, body: PictureRequest, draw: Draw) -> Response:
    """Queue the drawing and reply with it, streamed where that is asked for."""
    state = state_of(request)
    state.catalogue.find(draw.model)
    job = state.submit(draw, job_of)
    if isinstance(body, StreamedPicture) and body.stream:
        names = {"draw": "image_generation", "edit": "image_edit", "vary": "image_edit"}
        return await streamed(request, job, Events(names[draw.way]).write)
    return await run_in_threadpool(whole_response, await result_of(request, job))


def job_of(state: State, draw: Draw) -> Job:
    """New pictures of one model and one sampling share a batch; what is drawn over others does not."""
    key = None
    if draw.way == "draw":
        key = ("draw", draw.model, draw.sampling_key)
    return Job(state.drawings.draw, key, draw, len(draw.seeds), state.options.time_limit_s)


def whole_response(found: Drawn) -> Response:
    """A reply that is not streamed."""
    data = []
    for image, seed in zip(found.images, found.seeds, strict=True):
        data.append({"b64_json": pictures.to_base64(image), "seed": seed, **revised(found)})
    first = found.images[0]
    more = {"size": f"{first.width}x{first.height}", "output_format": "png", "usage": usage(found)}
    return json_response({"created": int(time.time()), "data": data, "notes": found.notes, **more})


def revised(found: Drawn) -> dict[str, str]:
    """The model's own wording of the prompt, where it was asked for."""
    if found.revised:
        return {"revised_prompt": found.prompt}
    return {}


def usage(found: Drawn) -> dict[str, Any]:
    read, made = found.prompt_tokens, found.image_tokens
    details = {"text_tokens": read, "image_tokens": 0}
    total = {"input_tokens": read, "output_tokens": made, "total_tokens": read + made}
    return {**total, "input_tokens_details": details}


class Events:
    """Turns the events of a job into those of a streamed picture."""

    def __init__(self, name: str) -> None:
        self.name = name

    def write(self, event: Event) -> list[str]:
        """The lines of one event."""
        last, value = event
        if isinstance(value, Partial):
            kind = f"{self.name}.partial_image"
            more: dict[str, Any] = {"partial_image_index": value.index}
            image = value.image
        else:
            kind = f"{self.name}.completed"
            more = {"usage": usage(value), "seed": value.seeds[0], "notes": value.notes, **revised(value)}
            image = value.images[0]
        found = {
            "type": kind,
            "b64_json": pictures.to_base64(image),
            "created_at": int(time.time()),
            "size": f"{image.width}x{image.height}",
            "quality": "auto",
            "background": "opaque",
            "output_format": "png",
            **more,
        }
        lines = [sse(found, kind)]
        if last:
            lines.append("data: [DONE]\n\n")
        return lines


# multipart forms


async def read_form(request: Request, schema: type[Form], more: tuple[str, ...] = ()) -> tuple[Form, Files]:
    """The fields of a form, checked, and the bytes of its files by name. ApiError for anything else."""
    files: dict[str, list[bytes]] = {}
    fields: dict[str, Any] = {}
    try:
        async with request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS) as form:
            for name, value in form.multi_items():
                if not isinstance(value, UploadFile):
                    fields[name] = value
                elif (value.size or 0) > MAX_PICTURE_BYTES:
                    raise bad_request(f"{name} may have at most {MAX_PICTURE_BYTES >> 20} MiB", name[:80])
                else:
                    files.setdefault(name, []).append(await value.read())
    except HTTPException:
        raise
    except (ValueError, LookupError, AssertionError) as error:  # what parsers make of a broken body
        raise bad_request("the body is no multipart form; send the picture as a file") from error
    if unknown := set(files) - {*IMAGE_NAMES, *more}:
        raise bad_request(f"the file {min(unknown)[:80]!r} is not expected; {', '.join(('image', *more))} may be sent")
    try:
        return schema.model_validate({name: value for name, value in fields.items() if value != ""}), files
    except ValidationError as error:
        raise from_validation(error.errors()) from error


def only_picture(files: Files) -> bytes:
    """The bytes of the one picture. ApiError for none or several."""
    found = [data for name in IMAGE_NAMES for data in files.get(name, [])]
    if len(found) != 1:
        raise bad_request(f"{len(found)} pictures were sent as image; exactly one can be drawn over", "image")
    return found[0]


def masked_picture(files: Files) -> tuple[Image.Image, Image.Image]:
    """The picture as RGB, and the mask: the file `mask`, or else the picture's own transparency.

    ApiError where nothing is transparent, so that no mask is ever passed over.
    """
    data = only_picture(files)
    if len(files.get("mask", [])) > 1:
        raise bad_request("several masks were sent; send one", "mask")
    if "mask" in files:
        mask = pictures.decode(files["mask"][0], "mask", mask=True)
    else:
        mask = pictures.decode(data, "image", mask=True)
    if not has_clear_pixels(mask):
        raise bad_request(
            "nothing is transparent, so it is unknown what to draw again; send a mask of the picture's size whose "
            "transparent pixels are drawn again",
            "mask",
        )
    return pictures.decode(data, "image"), mask


def has_clear_pixels(mask: Image.Image) -> bool:
    """Whether a pixel is more transparent than not."""
    return mask.mode == "RGBA" and bool((np.asarray(mask.getchannel("A")) < 128).any())
