#!/usr/bin/env bash
# What: huggingface_hub 2.4 speaks through httpx2, no longer through httpx. A client of httpx in `set_client_factory` is taken and
#   works, until the hub answers with an error: then `repo_exists`, which is to say False, raises httpx's error, for what the hub
#   translates errors by is httpx2's. Nor does `except httpx.HTTPError` catch that the hub cannot be reached.
# Versions: huggingface_hub 2.4.0, httpx 0.28.1, httpx2 2.16.2.
# Expected by most: a client that answers one request answers all; the hub's errors are httpx's, as they were in 1.x.
# Observed:
#   huggingface_hub 2.4.0 httpx 0.28.1 httpx2 2.16.2
#   a found repository: httpx2 True, httpx True
#   one that is missing: httpx2 False, httpx raises httpx.HTTPStatusError
#   not reachable: httpx2.ConnectError, one of httpx: False
# Instead: make clients (proxies, certificates, mocks) with httpx2, and catch httpx2.HTTPError, which is no OSError when nothing
#   answers.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check huggingface_hub==2.4.0 httpx==0.28.1 httpx2==2.16.2
cat > show.py <<'PY'
import os
import socket

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{free.getsockname()[1]}"

import httpx
import httpx2
import huggingface_hub
from huggingface_hub import HfApi, set_client_factory


def ask(module, status):
    """Whether a repository exists, by a client whose every answer is this one."""
    headers = {"X-Error-Code": "RepoNotFound"} if status == 404 else {}
    reply = lambda request: module.Response(status, headers=headers, json={"id": "me/model"})
    set_client_factory(lambda: module.Client(transport=module.MockTransport(reply)))
    try:
        return str(HfApi().repo_exists("me/model"))
    except Exception as error:
        return f"raises {type(error).__module__}.{type(error).__name__}"


try:
    HfApi().model_info("me/model")
    raise SystemExit("something answered")
except httpx2.HTTPError as error:
    unreachable = type(error)
print(f"huggingface_hub {huggingface_hub.__version__} httpx {httpx.__version__} httpx2 {httpx2.__version__}")
found = {module.__name__: ask(module, 200) for module in (httpx2, httpx)}
missing = {module.__name__: ask(module, 404) for module in (httpx2, httpx)}
print(f"a found repository: httpx2 {found['httpx2']}, httpx {found['httpx']}")
print(f"one that is missing: httpx2 {missing['httpx2']}, httpx {missing['httpx']}")
ours = issubclass(unreachable, httpx.HTTPError)
print(f"not reachable: {unreachable.__module__}.{unreachable.__name__}, one of httpx: {ours}")
assert found == {"httpx2": "True", "httpx": "True"}, found
assert missing == {"httpx2": "False", "httpx": "raises httpx.HTTPStatusError"}, missing
assert unreachable.__module__ == "httpx2" and not ours, unreachable
PY
venv/bin/python show.py
