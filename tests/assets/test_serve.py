"""stemma serve as a process: a stream over a socket, and an orderly end."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server(finished):
    """The process, and the address that it says it answers at."""
    environment = {**os.environ, "STEMMA_STORE": str(finished.url), "STEMMA_SPEC": str(finished.spec_path)}
    command = [sys.executable, "-u", "-m", "assets", "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline()
            assert " answers at http://127.0.0.1:" in said
            yield process, said.split(" at ")[1].strip()
        finally:
            process.kill()


def body(**fields):
    data = json.dumps({"prompt": "Return the", "seed": 1, **fields}).encode()
    return {"data": data, "headers": {"Content-Type": "application/json"}}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stream_is_completed_when_the_server_is_told_to_end(server, finished, stemma, number):
    process, url = server
    with urlopen(Request(f"{url}/completions", **body(stream=True, max_tokens=60)), timeout=60) as answer:
        first = answer.readline()
        process.send_signal(number)
        events = [line.decode().removeprefix("data: ").strip() for line in [first, *answer] if line.strip()]
    assert events[-1] == "[DONE]"
    text = "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1])
    wishes = ("--seed", "1", "--temperature", "1", "--top-k", "0", "--top-p", "1", "--tokens", "60")
    assert text == stemma.json(finished, "generate", "Return the", *wishes)[0]["text"]
    assert process.wait(timeout=60) == 0
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.socket() as one, pytest.raises(ConnectionRefusedError):
        one.connect((host, int(port)))


def test_what_cannot_be_served_is_said_before_anything_is_loaded(finished, stemma, monkeypatch):
    assert "set STEMMA_SERVE_TOKEN" in stemma(finished, "serve", "--host", "0.0.0.0", code=2)
    assert "no checkpoint 'nobody'" in stemma(finished, "serve", "nobody", code=2)
    assert "cannot write text" in stemma(finished, "serve", "demo-source", code=1)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "pip install -e '.[serve]'" in stemma(finished, "serve", code=2)
