"""The world's judge over HTTP gives what it gives in process: alone, in training, and through ordered trouble."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from sync_r1.commands.judge import app
from sync_r1.config import JudgeConfig
from sync_r1.rl.rewards import Reward, RewardEnsemble
from sync_r1.scorers.base import Judge, Score
from sync_r1.scorers.chat.client import find_object
from sync_r1.scorers.judge import RemoteJudge, Verdict, pictures_schema
from sync_r1.scorers.judge_prompts import conversation
from sync_r1.scorers.reward_functions import JudgeRewards
from sync_r1.world import grammar
from sync_r1.world.assets import load_evaluator_reader, load_reward_reader
from sync_r1.world.judge import WorldJudge
from sync_r1.world.judge_server import JudgeServer, Rehearsal, lies, serving
from sync_r1.world.render import random_thing, render
from tests.rl import toys


def pictures(count: int, seed: int = 0) -> tuple[Tensor, list[str]]:
    """Random renders, and descriptions that fit every second one."""
    rng = np.random.default_rng(seed)
    things = [random_thing(rng) for _ in range(count)]
    shown = [thing if index % 2 else random_thing(rng) for index, thing in enumerate(things)]
    texts = [
        grammar.scene_prompt("a photo of", grammar.describe(grammar.identity_of(thing)), grammar.context_of(thing))
        for thing in shown
    ]
    return torch.from_numpy(np.stack([render(thing) for thing in things])).permute(0, 3, 1, 2), texts


def remote(server: JudgeServer, **changes: Any) -> RemoteJudge:
    return RemoteJudge(JudgeConfig(**{"url": server.url, "model": "world", "timeout_s": 20.0, **changes}))


def close(found: Sequence[Score], wanted: Sequence[Score]) -> bool:
    """The same up to the rounding of another batch size, None in the same places."""
    pairs = list(zip(found, wanted, strict=True))
    return all(a is b is None or (a is not None and b is not None and abs(a - b) < 1e-6) for a, b in pairs)


@pytest.fixture(scope="module")
def reward_judge() -> WorldJudge:
    return WorldJudge(load_reward_reader(), soft=True)


def test_served_scores_are_those_in_process(reward_judge: WorldJudge) -> None:
    images, texts = pictures(12)
    texts[3] = "nothing the world knows"
    for judge in (reward_judge, WorldJudge(load_evaluator_reader())):
        with serving(JudgeServer(judge)) as server:
            found, wanted = remote(server, images_per_call=5)(images, texts), judge(images, texts)
        assert found[3] is wanted[3] is None
        assert close(found, wanted)
        assert len(set(found)) > 3


def test_larger_pictures_are_read_like_the_world_s_own(reward_judge: WorldJudge) -> None:
    images, texts = pictures(4)
    with serving(JudgeServer(reward_judge)) as server:
        large = images.repeat_interleave(8, 2).repeat_interleave(8, 3)
        assert remote(server)(large, texts) == remote(server)(images, texts)


def test_texts_and_clauses_over_http_too(reward_judge: WorldJudge) -> None:
    images, texts = pictures(3)
    prompts = [text.replace(" wearing", ", wearing").replace(" holding", ", holding") for text in texts]
    questions, references, answers = (
        ["What colour is <bo>?"] * 3,
        ["red", "a red dog", "blue"],
        ["Red.", "a dog", "green"],
    )
    with serving(JudgeServer(reward_judge)) as server:
        far = remote(server)
        assert far.score_text_answer(questions, references, answers) == reward_judge.score_text_answer(
            questions, references, answers
        )
        assert far.score_prompt_similarity(references, answers) == reward_judge.score_prompt_similarity(
            references, answers
        )
        assert close(far.score_clauses(images, prompts), reward_judge.score_clauses(images, prompts))


def enlarged(judge: Judge) -> Judge:
    """The tiny model draws 16×16 pixels; the world is 32×32."""

    def see(images: Tensor, texts: Sequence[str], *, references: Sequence[Sequence[Path]] | None = None) -> Any:
        return judge(images.repeat_interleave(2, 2).repeat_interleave(2, 3), texts, references=references)

    return see


def test_training_with_the_served_judge_is_training_with_it_in_process(
    tmp_path: Path, reward_judge: WorldJudge
) -> None:
    runs = []
    with serving(JudgeServer(reward_judge)) as server:
        far = remote(server, images_per_call=4, identity_weight=0.6)
        for name, judge in (("near", reward_judge), ("far", far)):
            rewards = JudgeRewards(enlarged(judge), photos=True)
            members = [
                Reward("likeness", rewards.likeness, "image"),
                Reward("faithfulness", rewards.faithfulness, "image"),
            ]
            run = toys.trainer(tmp_path / name, "rl.max_steps=3", rewards=RewardEnsemble(members))
            run.train()
            runs.append(toys.log_of(run))
    assert far.counts["scored"] > 0 and set(far.counts) == {"scored"}
    for near, distant in zip(*runs, strict=True):
        assert near.keys() == distant.keys() and near["rewards/likeness/std"] > 0
        for key in ("reward", "reward_std", "loss", "grad_norm", "rewards/likeness/mean", "rewards/likeness/std"):
            assert distant[key] == pytest.approx(near[key], rel=1e-4, abs=1e-7), key


def test_thirty_percent_failures_leave_no_score_open(reward_judge: WorldJudge) -> None:
    images, texts = pictures(40)
    with serving(JudgeServer(reward_judge, rehearsal=Rehearsal(fail_rate=0.3))) as server:
        far = remote(server, images_per_call=2, max_retries=10)
        assert close(far(images, texts), reward_judge(images, texts))
        assert far.client.usage.retries > 0 and far.client.usage.cost == 0


def test_a_lying_judge_gives_none_and_a_half_lying_one_is_mostly_repaired(reward_judge: WorldJudge) -> None:
    images, texts = pictures(20)
    with (
        serving(JudgeServer(reward_judge, rehearsal=Rehearsal(lie_rate=1.0))) as server,
        pytest.warns(UserWarning, match="left 20 of 20"),
    ):
        assert remote(server)(images, texts) == [None] * 20
    truth: list[Any] = reward_judge(images, texts)
    with serving(JudgeServer(reward_judge, rehearsal=Rehearsal(lie_rate=0.4, seed=1))) as server:
        far = remote(server, images_per_call=1)
        with pytest.warns(UserWarning, match="scores open"):
            found = far(images, texts)
    assert 12 <= sum(score is not None for score in found) < 20 and far.counts["asked_again"] > 2
    assert close(found, [None if score is None else true for score, true in zip(found, truth)])


@pytest.mark.parametrize("count", [1, 2, 9])
def test_no_lie_fits_the_schema(count: int) -> None:
    for lie in lies(count):
        assert find_object(lie, pictures_schema(count)) is None and find_object(lie, Verdict) is None


def test_requests_of_others_are_refused_in_words(reward_judge: WorldJudge) -> None:
    with serving(JudgeServer(reward_judge)) as server:
        assert httpx2.get(f"{server.url}/models").json()["data"][0]["id"] == "world"
        assert httpx2.get(server.url).status_code == httpx2.post(server.url, json={}).status_code == 404
        for body in (
            b"{",
            b"[]",
            b'{"messages": 5}',
            json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode(),
        ):
            reply = httpx2.post(f"{server.url}/chat/completions", content=body)
            assert reply.status_code == 400 and reply.json()["error"]["message"]
        data = {"task": "answer", "question": "hat?", "reference": "a crown", "answer": "a crown"}
        spoken = conversation("Grade.", data, [], "score")
        for odd in ({"role": "assistant"}, 5, {"content": [5]}):
            reply = httpx2.post(f"{server.url}/chat/completions", json={"messages": [*spoken, odd]})
            assert reply.status_code == 400 and "not of the form of a chat" in reply.json()["error"]["message"]
        assert httpx2.post(f"{server.url}/chat/completions", json={"messages": spoken}).status_code == 200
        connection = http.client.HTTPConnection(*server.server_address[:2])  # type: ignore[misc]
        connection.putrequest("POST", "/v1/chat/completions")
        connection.putheader("Content-Length", str(1 << 40))
        connection.endheaders()
        assert connection.getresponse().status == 413


@pytest.mark.parametrize("wrong", [{"fail_rate": 1.5}, {"lie_rate": -0.1}, {"delay_s": -1.0}])
def test_rehearsals_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="it must be"):
        Rehearsal(**wrong)


def test_check_tells_time_scores_and_cost(reward_judge: WorldJudge) -> None:
    with serving(JudgeServer(reward_judge)) as server:
        options = ["check", "--url", server.url, "--model", "world", "--price-in", "1"]
        result = CliRunner().invoke(app, options)
        assert result.exit_code == 0, result.output
        assert "world at 127.0.0.1" in result.output and "1 requests" in result.output and "for 1000" in result.output
        server.rehearsal = Rehearsal(lie_rate=1.0)
        assert "left 2 of 2" in str(CliRunner().invoke(app, options).exception)


def test_serve_says_where_and_a_taken_port_is_refused(
    monkeypatch: pytest.MonkeyPatch, reward_judge: WorldJudge
) -> None:
    def stop(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(JudgeServer, "serve_forever", stop)
    result = CliRunner().invoke(app, ["serve", "--port", "0", "--evaluator"])
    assert result.exit_code == 0 and "http://127.0.0.1:" in result.output and "stopped" in result.output
    taken = JudgeServer(reward_judge)
    with pytest.raises(ValueError, match="choose another --port"):
        JudgeServer(reward_judge, port=int(taken.server_address[1]))
    taken.server_close()
