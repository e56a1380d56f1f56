"""A small archive in the published UniCTokens layout, as its own scripts would leave it, and ways to damage it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

ELSEWHERE = "/home/x/unictokens_data"  # where the stored paths were valid
PAIRS = [(f"<bo> with its {thing}.", f"<bo> with its {colour} {thing}.") for thing, colour in zip("abcde", "uvwxy")]
CONDITIONS = {
    "dense_prompt_generation": ["<bo>, soft light, in a garden.", "<bo>, at night, in rain."],
    "personalized_driven_generation": [implicit for implicit, _ in PAIRS],
    "explicit_personalized_driven_generation": [explicit for _, explicit in PAIRS],
    "personalized_dense_prompt_generation": ["<bo> in its coat, in rain."],
    "explicit_personalized_dense_prompt_generation": ["<bo> in its green coat, in rain."],
}
INFO = {
    "class": "German shepherd",
    "info": "<bo> is a grey shepherd with a folded ear.",
    "extra_info": "<bo> has a green coat.",  # a bare text stands for a list of one
    "conversation_type": "animal",
    "generation_type": "Live Subject",
    "num_testing_info": "2",
}


def talk(question: str, answer: str, *more: str) -> list[dict[str, str]]:
    said = [f"<image>\n{question}", answer, *more]
    return [{"from": "gpt" if i % 2 else "human", "value": text} for i, text in enumerate(said)]


def put(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def paint(path: Path, shade: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 20), (shade * 7 % 256, 60, 120)).save(path)
    return path


def build_archive(root: Path, name: str = "bo") -> Path:
    """Eleven photos 1…11, so that 1.png and 11.png can be mixed up; everything of unifybench.md §1 is there."""
    train, test = root / "concept/train" / name, root / "concept/test" / name
    for number in range(1, 12):
        paint(train / f"{number}.png", number)
    for number in range(2):
        paint(test / f"{number}.png", 50 + number)
        paint(train / f"cropped/{number}.jpg", 20 + number)
        paint(train / f"negative_example/{number}.png", 30 + number)
    paint(train / "cropped/0_mask.png", 0)
    for number in range(4):
        paint(root / f"random_images/{number}.png", 40 + number)
    Image.new("RGB", (32, 32)).save(root / "black_512x512.png")
    put(root / "concepts_list.json", [name, "bingbing"])
    put(root / "template.json", {"unknown": ["schema"]})
    put(root / "concept/train/train_images.json", {name: [f"{i}.png" for i in range(1, 12)], "bingbing": ["0.png"]})
    put(train / "info.json", json.loads(json.dumps(INFO).replace("<bo>", f"<{name}>")))
    asked = {
        f"{ELSEWHERE}/concept/train/{name}/{key}": [{"query": f"About {key}?", "answer": "Yes."}]
        for key in ("1.png", "11.png")
    }
    put(train / "conversations.json", {**asked, "text_only": [{"query": "Where does it sleep?", "answer": "Inside."}]})
    put(train / "positive_recognitions.json", [{"query": f"Do you see <{name}>?", "answer": "Yes."}])
    put(train / "random_recognitions.json", [{"image": "3.png", "conversations": talk(f"Do you see <{name}>?", "No.")}])
    put(train / "negative_example/score.json", {"0.png": 0.81, "1.png": float("nan")})
    put(test / "t2i_conditions.json", json.loads(json.dumps(CONDITIONS).replace("<bo>", f"<{name}>")))
    put(test / "vqa.json", [{"image": "0.png", "question": "What colour?", "answer": "Grey."}])
    put(test / "text_only.json", [{"question": "Is it old?", "answer": "No."}])
    stage = [
        {
            "image": f"{ELSEWHERE}/concept/train/{name}/1.png",
            "conversations": talk("What is this?", "A dog.", "Where?", "Inside."),
        },
        {
            "image": "D:\\data\\unictokens_data\\random_images\\2.png",
            "conversations": talk(f"Is <{name}> here?", "No."),
        },
        {"conversations": talk("Is it grey?", "Yes.")},
    ]
    for number in (1, 3):
        put(root / f"showo_training_data_stage_{number}" / f"{name}.json", stage)
    put(
        root / "test_data" / f"{name}.json",
        [
            {
                "type": "rec",
                "image": f"{ELSEWHERE}/concept/test/{name}/0.png",
                "conversations": talk(f"Is <{name}> here?", "Yes."),
            },
            {"type": "rec", "image": "other/random_images/0.png", "conversations": talk(f"Is <{name}> here?", "No.")},
            {
                "type": "vqa",
                "image": f"{ELSEWHERE}/concept/test/{name}/1.png",
                "conversations": talk("What colour?", "Grey."),
            },
            {
                "type": "text_only",
                "image": f"{ELSEWHERE}/black_512x512.png",
                "conversations": talk("Is it old?", "No."),
            },
            {"type": "vqa_choice", "image": "nowhere.png", "conversations": talk("A or B?", "A")},
        ],
    )
    return root


def edit(path: Path, **changes: Any) -> None:
    """Set fields of a JSON object; None removes one."""
    data = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    put(path, {key: value for key, value in data.items() if value is not None})
