"""What the applications of feedback, chat and why are worth: claims on the embedded world, measured.

    python benchmarks/applications.py --claim feedback --concepts ivo lumen cleo rex --seeds 0 1 2
    python benchmarks/applications.py --claim why-facts --concepts ivo
    python benchmarks/applications.py --claim why-words --concepts ivo

Rows go into --out (docs/applications.json), one per claim, concept and seed; rows of other claims stay. Drawings are
read by the evaluator's reader, which no reward ever uses. Tune on ivo, lumen, cleo and rex only: the others count.

feedback: an owner who knows what the private words mean gives at most six thumbs, to what `next_question` shows. Then
`learn` practises for --seconds, measured after each of --marks of them; undo must give the same logits. With
--baseline the same thumbs are pushed as labels instead (likelihood of good texts up, of bad ones down) for as long.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from sync_r1.apps.feedback import Event, Snapshot, Store, belief, learn, next_question, rate_rewrite, undo
from sync_r1.apps.feedback.naming import facts_named
from sync_r1.apps.feedback.practice import practice_config
from sync_r1.apps.why import facts_credits
from sync_r1.apps.why_picture import split_words, word_credit
from sync_r1.data.prompts import rewrite_prompt
from sync_r1.data.regions import Square, read_region
from sync_r1.files import write_json
from sync_r1.models.concept_tokens import learned_row_ids
from sync_r1.scorers.text import exact
from sync_r1.session import Session
from sync_r1.training.answers import answer_ids
from sync_r1.training.parameters import Trainables
from sync_r1.types import Sampling, TextContext
from sync_r1.unifybench.tasks import build_items
from sync_r1.world import grammar
from sync_r1.world.assets import load_evaluator_reader
from sync_r1.world.concepts import Persona, personas
from sync_r1.world.judge import WorldJudge
from sync_r1.world.regions import ATTRIBUTE_REGIONS, NAMED_REGIONS
from sync_r1.world.render import SIZE

MOST_THUMBS = 6
Row = dict[str, Any]


def open_session(concept: str, run: str) -> Session:
    """The shipped weights, or a run of the concept: `{concept}` in --run stands for its name."""
    if run:
        return Session.open(checkpoint=run.format(concept=concept), concept=concept, device="cpu")
    return Session.open(concept=concept, device="cpu")


def meanings(persona: Persona) -> dict[str, str]:
    """ "its treasure" → "<bo> carries a flower."."""
    found = {}
    for word, attribute in persona.meanings.items():
        found[f"its {word}"] = grammar.fact(persona.placeholder, attribute, persona.facts[attribute])
    return found


# A6: feedback


def give_thumbs(session: Session, store: Store, truth: dict[str, str], seed: int) -> int:
    """An owner answers what is asked, at most six times. Returns the number of thumbs."""
    for number in range(MOST_THUMBS):
        asked = next_question(session, belief(store), seed=1000 * seed + 100 * number)
        if asked is None:
            return number
        text = asked.rewrites[0]
        good = facts_named(session, [(asked.prompt, text)])[0] == [truth[asked.word]]
        rate_rewrite(session, store, asked.prompt, text, good)
    return MOST_THUMBS


def understanding(session: Session) -> Row:
    """Held-out scores of the rewriting tasks and of questions about photos: shares that are exactly right."""
    scores: Row = {}
    items = build_items(session.concept, root=session.root, tasks=["vqa", "rea", "dense_rea"])
    for task in ("rea", "dense_rea", "vqa"):
        own = [item for item in items if item.task == task]
        if task == "vqa":
            codes = session.encode([item.image for item in own if item.image is not None])
            contexts = [session.question_context(item.prompt, row) for item, row in zip(own, codes, strict=True)]
            texts = session.answers(contexts)
        else:
            texts = session.rewrites([item.prompt for item in own])
        scores[task] = sum(exact(text, item.truth) for text, item in zip(texts, own, strict=True)) / len(own)
    return scores


def drawing(session: Session) -> float:
    """Share of what held-out explicit prompts and the info line ask for that the evaluator's reader finds."""
    judge = WorldJudge(load_evaluator_reader())
    items = build_items(session.concept, root=session.root, tasks=["pure_gen"])
    pictures = session.pictures([item.prompt for item in items], [item.seed for item in items])
    scores = judge(pictures, [f"{session.concept.info} {item.prompt}" for item in items])
    known = [score for score in scores if score is not None]
    return sum(known) / len(known)


def some_logits(session: Session) -> torch.Tensor:
    """Log-probabilities that any changed weight would change."""
    prompt = rewrite_prompt(session.concept, f"a photo of {session.concept.placeholder}")
    ids, mask = answer_ids(session.model, [f"a photo of {session.concept.placeholder} at the beach"])
    with torch.no_grad():
        return session.model.text_logps([TextContext(prompt)], ids, mask, Sampling())[0]


def push_labels(session: Session, events: Sequence[Event], seconds: float, seed: int) -> None:
    """The baseline: the thumbed texts themselves. Minimises −log p(good) and −log(1 − p) of every token of the bad."""
    rl = practice_config(session, Path(), seed).rl
    trainables = Trainables(session.model, rl, learned_row_ids(session.model), seed)
    optimizer = trainables.optimizer()
    contexts = [session.rewrite_context(event.prompt) for event in events]
    ids, mask = answer_ids(session.model, [event.output for event in events])
    good = torch.tensor([event.good for event in events])
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        logps = session.model.text_logps(contexts, ids, mask, Sampling())[0]
        unlikely = torch.log1p(-logps.exp().clamp(max=1 - 1e-6)).sum(1)
        loss = -torch.where(good, logps.sum(1), unlikely).mean()
        loss.backward()
        clip_grad_norm_(trainables.parameters(), rl.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    trainables.rows.release()


def feedback(session: Session, concept: str, seed: int, arguments: argparse.Namespace) -> Iterator[Row]:
    """One concept and seed: before, after each mark of seconds, and after undo."""
    truth = meanings(personas()[concept])
    with tempfile.TemporaryDirectory() as folder:
        store = Store.of(concept, folder)
        thumbs = give_thumbs(session, store, truth, seed)
        known = belief(store)
        row: Row = {
            "thumbs": thumbs,
            "settled_right": sum(known.meaning(word)[0] == fact for word, fact in truth.items()) / len(truth),
            "before": {**understanding(session), "drawing": drawing(session)},
            "after": {},
        }
        for seconds in arguments.marks:
            start, cpu, logits = Snapshot(session.model), time.process_time(), some_logits(session)
            if arguments.baseline:
                push_labels(session, store.events(), seconds, seed)
                start.release()
                made: Row = {}
            else:
                update = learn(session, store, seconds, seed=seed)
                made = {"updates": update.steps, "rolled_back": update.rolled_back}
            spent = time.process_time() - cpu
            made |= {**understanding(session), "drawing": drawing(session), "cpu_s": round(spent, 1)}
            if arguments.baseline:
                start.restore()
            else:
                undo(session, update)
                made["undo_bit_equal"] = bool(torch.equal(logits, some_logits(session)))
            row["after"][f"{seconds:g}"] = made
        yield row


# A4: credit of facts


def why_facts(session: Session, concept: str, seed: int, arguments: argparse.Namespace) -> Iterator[Row]:
    """Take the fact with the highest credit away, or another one: how often does the greedy text change?"""
    prompts = [item.prompt for item in build_items(session.concept, root=session.root, tasks=["rea"])]
    texts = session.rewrites(prompts)
    credits = facts_credits(session, list(zip(prompts, texts, strict=True)))
    truth, named, other = meanings(personas()[concept]), [], []
    meant = []
    for prompt, text, row in zip(prompts, texts, credits, strict=True):
        best = max(range(len(row)), key=row.__getitem__)
        least = min(range(len(row)), key=row.__getitem__)
        named.append(_without(session, prompt, best) != text)
        other.append(_without(session, prompt, least) != text)
        wanted = next((fact for word, fact in truth.items() if word in prompt), "")
        if wanted:
            meant.append(session.concept.facts[best] == wanted)
    share: Callable[[list[bool]], float] = lambda found: sum(found) / max(len(found), 1)  # noqa: E731
    yield {
        "n": len(prompts),
        "named_removed_changes": share(named),
        "other_removed_changes": share(other),
        "names_the_meant_fact": share(meant),
    }


def _without(session: Session, prompt: str, number: int) -> str:
    from dataclasses import replace

    facts = [fact for place, fact in enumerate(session.concept.facts) if place != number]
    context = TextContext(rewrite_prompt(replace(session.concept, facts=facts), prompt))
    return session.answers([context])[0]


# A5: credit of words


def why_words(session: Session, concept: str, seed: int, arguments: argparse.Namespace) -> Iterator[Row]:
    """Where the credit of hat, held thing and place lies, and whose credit is highest in the cells of each."""
    square = Square(SIZE, SIZE, round(session.model.num_image_tokens**0.5))
    shares: dict[str, list[float]] = {}
    right: dict[str, list[bool]] = {}
    areas = {}
    prompts = _full_prompts(session, arguments.pictures, seed)
    for number, (prompt, asked) in enumerate(prompts):
        picture = session.draw_traced(prompt, seed=seed * 1000 + number)[0]
        credits = word_credit(session, picture)
        for attribute, value in asked.items():
            cells = square.cells(_pixels(attribute, square))
            areas[attribute] = float(cells.mean())
            own = next(one for one in credits if value in one.words.split())
            best = max(credits, key=lambda one: float(one.cells[cells].sum()))
            shares.setdefault(attribute, []).append(own.share(cells))
            right.setdefault(attribute, []).append(best is own)
    yield {
        "n": len(prompts),
        "own_share": {name: sum(row) / len(row) for name, row in shares.items()},
        "area": areas,
        "named_right": {name: sum(row) / len(row) for name, row in right.items()},
    }


def _pixels(attribute: str, square: Square) -> Any:
    masks = [read_region(name, square, NAMED_REGIONS) for name in ATTRIBUTE_REGIONS[attribute]]
    found = masks[0]
    for mask in masks[1:]:
        found = found | mask
    return found


def _full_prompts(session: Session, count: int, seed: int) -> list[tuple[str, dict[str, str]]]:
    """Prompts that name a hat, a held thing and a place, with the words to look for."""
    import numpy as np

    from sync_r1.world.render import CONTEXT_VALUES

    rng = np.random.default_rng([seed, 5])
    found: list[tuple[str, dict[str, str]]] = []
    while len(found) < count:
        context = {name: grammar.choose(rng, values) for name, values in CONTEXT_VALUES.items()}
        prompt = grammar.scene_prompt("a photo of", session.concept.placeholder, context)
        if all(any(value in piece.split() for piece in split_words(prompt)) for value in context.values()):
            found.append((prompt, context))
    return found


CLAIMS = {"feedback": feedback, "why-facts": why_facts, "why-words": why_words}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claim", choices=sorted(CLAIMS), required=True)
    parser.add_argument("--concepts", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--run", default="", help="a run per concept, such as runs/{concept}; default: shipped weights")
    parser.add_argument("--marks", nargs="+", type=float, default=[15.0, 60.0], help="feedback: seconds of practice")
    parser.add_argument("--baseline", action="store_true", help="feedback: push the thumbed texts as labels instead")
    parser.add_argument("--pictures", type=int, default=24, help="why-words: pictures per concept and seed")
    parser.add_argument("--out", type=Path, default=Path("docs/applications.json"))
    arguments = parser.parse_args()
    name = f"{arguments.claim}-labels" if arguments.baseline else arguments.claim
    kept: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    rows = kept.setdefault("rows", {}).setdefault(name, {})
    for concept in arguments.concepts:
        for seed in arguments.seeds:
            for row in CLAIMS[arguments.claim](open_session(concept, arguments.run), concept, seed, arguments):
                rows[f"{concept}/{seed}"] = row
                print(concept, seed, json.dumps(row))
                write_json(arguments.out, kept)


if __name__ == "__main__":
    main()
