"""Chat: every answer names what it came from, and a thumb is kept.

Run: python examples/chat.py --run runs/demo
"""

import tempfile
from pathlib import Path
from textwrap import fill

from shared import arguments, write_sheet

from sync_r1.apps.chat import Chat
from sync_r1.data import load_image
from sync_r1.session import Session

given = arguments()
session = Session.open(checkpoint=given.run, concept=given.concept)
name, photo = session.concept.name, session.concept.test_images[0]

with tempfile.TemporaryDirectory() as folder:
    chat = Chat({name: session}, Path(folder))
    lines = []
    for said in (f"What colour is {name}?", f"/picture {photo}", f"What is {name} holding?", "/why", "/good"):
        shown = said.replace(str(photo), "photo.png")
        reply = chat.say(said).replace(str(photo), "photo.png").replace(folder, ".")
        lines += [f"> {shown}", fill(reply, 60)]
print("\n".join(lines))
write_sheet(given.out / "chat.png", [("\n".join(lines), load_image(photo))], width=5.0)
