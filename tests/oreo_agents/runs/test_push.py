"""`oreo push`: what is uploaded, and what the command says when it cannot.

The hub is a small HTTP server on this machine that answers the five requests of an upload as the hub does, as far as
`huggingface_hub` reads the answers; files of real size would go by another way (LFS), which it does not have.
"""

import base64
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, ModelCard
from tiny_models import make_tokenizer

from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.runs import cli
from oreo_agents.runs import push as push_module
from oreo_agents.runs.push import chosen_files, main, push

CODE = 'name = "."  # this folder, or its name on the hub'
CARD = f"---\nlibrary_name: transformers\n---\n# Oreo: policy\n\n```python\n{CODE}\n```\n"


class Hub:
    """What the server has, and how it is to answer."""

    def __init__(self) -> None:  # noqa: D107
        self.asked: list[str] = []
        self.repos: dict[str, bool] = {}
        self.commits: list[dict[str, bytes]] = []
        self.refuses: dict[str, int] = {}
        self.url = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Answer a request; the status and JSON."""
        self.asked.append(f"{method} {path}")
        for part, status in self.refuses.items():
            if part in path:
                return status, {"error": "Not allowed here"}
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(part for part in (asked.get("organization") or "me", asked["name"]))
            there = name in self.repos
            self.repos.setdefault(name, bool(asked.get("private")) or asked.get("visibility") == "private")
            return (409 if there else 200), {"url": f"{self.url}/{name}"}
        if path.startswith("/api/validate-yaml"):
            return 200, {"errors": [], "warnings": []}
        if path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            return 200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        if path.endswith("/commit/main"):
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            self.commits.append({f["path"]: base64.b64decode(f["content"]) for f in files})
            return 200, {"commitUrl": f"{self.url}/me/mine/commit/abc", "commitOid": "abc", "pullRequestUrl": None}
        if method == "GET" and path.startswith("/api/models/"):
            name = path.removeprefix("/api/models/").partition("?")[0].removesuffix("/revision/main")
            if name in self.repos:
                return 200, {"id": name, "_id": "1", "private": self.repos[name], "sha": "abc", "siblings": []}
        return 404, {"error": "Repository not found"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, document = state.answer(self.command, self.path, body)
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_HEAD = _answer

        def log_message(self, *given: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(push_module, "HfApi", lambda: HfApi(endpoint=state.url, token="hf_test"))
    monkeypatch.setattr(push_module, "is_offline_mode", lambda: False)
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def policy(tmp_path: Path, checkpoint: Callable[[str], str]) -> Path:
    """A policy in a folder with all that a training may leave there."""
    folder = tmp_path / "run" / "oreo" / "policy"
    CausalPolicy.from_pretrained(checkpoint("llama")).save(folder, make_tokenizer(), CARD)
    for name in ("checkpoint-5/model.safetensors", "checkpoint-5/optimizer.pt", "optimizer.pt", "scheduler.pt",
                 "rng_state_0.pth", "trainer_state.json", "training_args.bin", "runs/now/events.out.tfevents.1",
                 ".env", ".git/config", "sub/.secret", ".cache/x/y"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("secret", encoding="utf-8")
    return folder


NETWORK = {"README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
           "tokenizer_config.json"}  # fmt: skip


def test_a_network_is_uploaded_whole_without_what_training_left_and_nothing_hidden(policy: Path, hub: Hub, capsys):
    before = {path: path.read_bytes() for path in policy.rglob("*") if path.is_file()}
    main([str(policy), "me/mine"])
    [commit] = hub.commits
    assert set(commit) == NETWORK and hub.repos == {"me/mine": False}
    for name in NETWORK - {"README.md"}:
        assert commit[name] == (policy / name).read_bytes()
    card = commit["README.md"].decode()
    assert '\nname = "me/mine"\n' in card and ModelCard(card).data.library_name == "transformers"
    assert {path: path.read_bytes() for path in policy.rglob("*") if path.is_file()} == before
    out = capsys.readouterr().out
    assert f"{hub.url}/me/mine/commit/abc" in out and "model.safetensors" in out
    assert "8 files of training stay here (--with-checkpoints uploads them)" in out


def test_checkpoints_of_training_are_uploaded_when_asked_for_and_hidden_files_never(policy: Path, hub: Hub):
    main([str(policy), "me/mine", "--with-checkpoints", "--private"])
    [commit] = hub.commits
    assert {"checkpoint-5/optimizer.pt", "optimizer.pt", "trainer_state.json"} <= set(commit)
    assert not [name for name in commit if any(part.startswith(".") for part in name.split("/"))]
    assert hub.repos == {"me/mine": True}


def test_a_dry_run_asks_nobody(policy: Path, hub: Hub, capsys):
    main([str(policy), "mine", "--dry-run"])
    out = capsys.readouterr().out
    assert not hub.asked and "6 files" in out and "dry run: nothing was uploaded to mine" in out
    assert "secret" not in out and ".env" not in out


def test_what_is_to_be_private_is_not_added_to_what_others_see(policy: Path, hub: Hub):
    hub.repos["me/mine"] = False
    with pytest.raises(ValueError, match="me/mine is there already and others see it"):
        main([str(policy), "me/mine", "--private"])
    assert not hub.commits
    main([str(policy), "me/mine"])
    assert len(hub.commits) == 1, "a repository that is there is added to"


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "the token is not valid: run `hf auth login`"),
        (403, "the token may not write there"),
        (500, "hub refused"),
    ],
)
@pytest.mark.parametrize("where", ["/api/repos/create", "/commit/main"])
def test_a_refusal_of_the_hub_is_a_sentence(
    policy: Path, hub: Hub, status: int, sentence: str, where: str, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.refuses[where] = status
    with pytest.raises(ValueError, match=sentence):
        main([str(policy), "me/mine"])
    assert not hub.commits


def test_a_hub_that_does_not_answer_is_a_sentence(policy: Path, hub: Hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    api = HfApi(endpoint="http://127.0.0.1:9", token="hf_test")
    with pytest.raises(ValueError, match=r"the hub cannot be reached .*nothing was committed to me/mine"):
        push(policy, "me/mine", ["config.json"], api=api)


def test_offline_and_without_a_token_it_says_so(policy: Path, hub: Hub, monkeypatch):
    monkeypatch.setattr(push_module, "HfApi", lambda: HfApi(endpoint=hub.url))
    monkeypatch.setattr(push_module, "get_token", lambda: None)
    with pytest.raises(ValueError, match="no token of the hub: run `hf auth login`, or set HF_TOKEN"):
        main([str(policy), "me/mine"])
    monkeypatch.setattr(push_module, "is_offline_mode", lambda: True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set"):
        main([str(policy), "me/mine"])
    assert not hub.asked


def test_what_is_no_network_is_refused_before_the_hub_is_asked(policy: Path, hub: Hub, tmp_path: Path):
    for folder, sentence in [
        (tmp_path / "nowhere", "no such folder"),
        (policy.parent, r"no network.*push .*oreo/policy, each to a name of its own"),
        (policy.parent.parent, r"no network.*push .*run/oreo/policy"),
        (policy / "runs", "give a folder of `save_pretrained`"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            main([str(folder), "me/mine"])
    for name in ("a/b/c", "", "me/..x", "me/mine space"):
        with pytest.raises(ValueError, match="no name of a repository"):
            main([str(policy), name])
    assert not hub.asked


def test_adapters_of_a_model_on_this_machine_are_refused(tmp_path: Path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"x")
    for base, fits in ((str(tmp_path), False), ("/gone/model", False), ("org/model", True)):
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}), encoding="utf-8")
        if fits:
            assert chosen_files(folder) == ["adapter_config.json", "adapter_model.safetensors"]
        else:
            with pytest.raises(
                ValueError, match=r"adapters adapt a model in a folder of this machine.*lora\.save=merged"
            ):
                chosen_files(folder)


def test_the_command_ends_with_a_sentence(policy: Path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["oreo", "push", str(policy.parent), "me/mine"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and capsys.readouterr().err.startswith("oreo: ")
