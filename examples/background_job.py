"""Background jobs: a training of its own that outlives this script; its state comes from its process and files.

Run: python examples/background_job.py --seconds 60
"""

import time

from shared import arguments, write_sheet

from sync_r1.apps import jobs
from sync_r1.session import Session

given = arguments()
folder = given.out / "background"
changes = ["rl.max_steps=2", "rl.prompts_per_step=1", "rl.num_generations=2", "rl.text_prompts_per_step=1"]
command = ["train", "--recipe", "world", "--concept", given.concept or "bo", "--no-evaluate", *changes]

jobs.start([*command, f"run.output_dir={given.out}", "run.name=background"], folder)
while (state := jobs.state(folder)).name in ("running", "stopping"):
    print(f"{state.name}: step {state.step} of {state.steps}")
    time.sleep(1)
print(f"{state.name}: step {state.step} of {state.steps}; page  {folder / 'report.html'}")

session = Session.open(checkpoint=folder)
prompt = f"a photo of {session.concept.placeholder} at the beach"
write_sheet(given.out / "background_job.png", [(f"after {state.step} steps", session.draw(prompt, seed=1)[0])])
