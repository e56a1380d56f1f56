"""Several things: two concepts in one picture, the one named first on the left, and what is wrong drawn again.

Run: python examples/several_things.py --run runs/demo
"""

from shared import arguments, write_sheet

from sync_r1.apps.check import repair
from sync_r1.apps.together import open_together

given = arguments()
first, second = given.concept or "bo", "ana"  # what no run learned starts as new tokens of its class
runs = [] if given.run is None else [given.run]
session = open_together([first, second], runs, data="world")

sheet = []
for place in ("at the beach", "in the snow"):
    prompt = f"a photo of <{first}> and <{second}> {place}"
    drawn = session.draw_traced(prompt, seed=1)[0]
    sheet.append((f"{first} and {second} {place}", repair(session, drawn, prompt).image))
write_sheet(given.out / "several_things.png", sheet, width=3.0)
