"""The server without a socket: what it answers, what it refuses, and who is written beside whom."""

from __future__ import annotations

import asyncio
import json
import threading

import openai
import pytest
import torch
from echo import LOG_AGAIN, LOG_OTHER, echo, names
from starlette.testclient import TestClient

from training.generate import Generator
from training.serving.app import Limits, Service, make_app
from training.serving.engine import BusyError, Engine, StoppingError
from training.serving.metrics import Metrics
from training.serving.served import Served, template_of
from training.serving.server import check_host, is_loopback, listening

URL = "http://127.0.0.1:8000"


class Gated(Generator):
    """Says its last token again and again, a step for every permit; without a gate as fast as it can."""

    def __init__(self, gated: bool = False) -> None:
        super().__init__(echo(), names(), 0)
        self.permits, self.joined, self.batches = threading.Semaphore(0), threading.Semaphore(0), []
        self.gated, self.broken = gated, False

    def decoder(self):
        writer, decoder = self, super().decoder()
        step, join = decoder.step, decoder.join

        def gated_step():
            if writer.broken:
                raise RuntimeError("no memory")
            if writer.gated:
                writer.permits.acquire()
            writer.batches.append(len(decoder.rows))
            return step()

        def told_join(rows):
            join(rows)
            for _ in rows:
                writer.joined.release()

        decoder.step, decoder.join = gated_step, told_join
        return decoder

    def rows(self, *prompts, max_tokens=3):
        return [self.continuation(prompt, max_tokens, temperature=0.0) for prompt in prompts]

    def wait_for_one(self):
        """Until one more is being written."""
        assert self.joined.acquire(timeout=60)

    def open(self):
        self.gated = False
        self.permits.release(1000)


@pytest.fixture
def make():
    """A server around a generator; its engine ends with the test."""
    engines = []

    def made(generator, *, template=None, token="", max_rows=4, max_waiting=8, **limits):
        engine = Engine(generator, max_rows=max_rows, max_waiting=max_waiting)
        engines.append((engine, generator))
        served = Served(generator, "parrot", "manifest-0123456789abcdef0123", template)
        return Service(served, engine, Limits(**limits), token)

    torch.set_num_threads(1)
    yield made
    for engine, generator in engines:
        generator.open()
        engine.stop()
        engine.join(60)


@pytest.fixture
def client(make):
    return TestClient(make_app(make(Gated(), max_prompts=6)), base_url=URL)


@pytest.fixture
def official(client):
    return openai.OpenAI(base_url=f"{URL}/v1", api_key="unused", http_client=client, max_retries=0)


def ask(client, **fields):
    return client.post("/v1/completions", json={"prompt": "w5 w9", "temperature": 0, "max_tokens": 3, **fields})


# -- through the official client ---------------------------------------------------------------------------------


def test_a_completion_has_the_text_of_the_generator_and_names_the_weights(official):
    said = official.completions.create(model="parrot", prompt="w5 w9", max_tokens=3, temperature=0)
    assert said.choices[0].text == "w9 w9 w9"
    assert said.choices[0].finish_reason == "length"
    assert said.usage.model_dump(include={"prompt_tokens", "completion_tokens", "total_tokens"}) == {
        "prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5,
    }  # fmt: skip
    assert said.system_fingerprint == "manifest-0123456789abcdef"
    assert official.models.list().data[0].id == "parrot"
    assert official.models.retrieve("parrot").root == "manifest-0123456789abcdef0123"


def test_prompts_and_choices_come_back_in_their_order(official):
    asked = {"model": "parrot", "prompt": ["w5", "w6"], "n": 2, "seed": 4, "temperature": 1.9, "max_tokens": 6}
    said = official.completions.create(**asked)
    assert [choice.index for choice in said.choices] == [0, 1, 2, 3]
    texts = [choice.text for choice in said.choices]
    writer = Gated()
    wanted = [
        writer.write([writer.continuation(p, 6, seed=4, choice=c, temperature=1.9)])[0].text
        for p in ("w5", "w6") for c in (0, 1)
    ]  # fmt: skip
    assert texts == wanted
    assert said.usage.prompt_tokens == 2  # each prompt once


def test_a_stream_is_the_same_text_in_pieces(official):
    chunks = list(official.completions.create(
        model="parrot", prompt="w5 w9", max_tokens=4, temperature=0, stream=True, echo=True,
        stream_options={"include_usage": True},
    ))  # fmt: skip
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == "w5 w9w9 w9 w9 w9"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-2:] == [None, "length"]
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 4)
    assert len({chunk.id for chunk in chunks}) == 1


def test_prompts_may_be_tokens(official):
    assert (
        official.completions.create(model="parrot", prompt=[5, 9], max_tokens=1, temperature=0).choices[0].text == "w9"
    )
    said = official.completions.create(model="parrot", prompt=[[5], [6]], max_tokens=1, temperature=0)
    assert [choice.text for choice in said.choices] == ["w5", "w6"]


def test_log_probabilities_are_those_of_the_model(official):
    found = official.completions.create(model="parrot", prompt="w9", max_tokens=2, temperature=0, logprobs=1).choices[0]
    assert found.logprobs.tokens == ["w9", "w9"]
    assert found.logprobs.token_logprobs == pytest.approx([LOG_AGAIN] * 2, abs=1e-4)
    assert found.logprobs.top_logprobs[0] == pytest.approx({"w9": LOG_AGAIN}, abs=1e-4)
    assert found.logprobs.text_offset == [0, 2]


def test_a_prompt_can_be_scored_without_writing_anything(official):
    """As evaluations ask for likelihoods: lm-eval's local-completions, for one."""
    asked = {"model": "parrot", "prompt": "w5 w9 w9", "max_tokens": 0, "echo": True, "logprobs": 1}
    found = official.completions.create(**asked).choices[0]
    assert (found.text, found.logprobs.tokens) == ("w5 w9 w9", ["w5", "w9", "w9"])
    assert found.logprobs.token_logprobs == pytest.approx([LOG_OTHER, LOG_OTHER, LOG_AGAIN], abs=1e-3)
    one_more = official.completions.create(**{**asked, "max_tokens": 1, "temperature": 0}).choices[0]
    assert one_more.logprobs.tokens == ["w5", "w9", "w9", "w9"]
    assert one_more.logprobs.token_logprobs[3] == pytest.approx(LOG_AGAIN, abs=1e-4)
    tokens = official.completions.create(**{**asked, "prompt": [5, 9, 9]}).choices[
        0
    ]  # as they are: nothing before them
    assert tokens.logprobs.token_logprobs[0] is None
    assert tokens.logprobs.token_logprobs[1:] == pytest.approx([LOG_OTHER, LOG_AGAIN], abs=1e-3)
    with pytest.raises(openai.BadRequestError, match="leave stream out"):
        official.completions.create(**asked, stream=True)


def test_a_stop_string_ends_a_text(official):
    found = official.completions.create(model="parrot", prompt="w9", max_tokens=9, temperature=0, stop=["9 w9 w"])
    assert (found.choices[0].text, found.choices[0].finish_reason) == ("w", "stop")


def test_errors_are_those_that_the_client_knows(official):
    with pytest.raises(openai.NotFoundError, match="there is `parrot`"):
        official.completions.create(model="gpt-4", prompt="w5")
    with pytest.raises(openai.BadRequestError) as caught:
        official.completions.create(model="parrot", prompt="w5 " * 10, max_tokens=7)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")
    with pytest.raises(openai.BadRequestError, match="no chat template"):
        official.chat.completions.create(model="parrot", messages=[{"role": "user", "content": "w5"}])


def test_a_chat_goes_through_the_template(make):
    def template(messages):
        if messages[0]["role"] == "tool":
            raise ValueError("no tools")
        return " ".join(message["content"] for message in messages)

    app = make_app(make(Gated(), template=template))
    official = openai.OpenAI(
        base_url=f"{URL}/v1", api_key="unused", http_client=TestClient(app, base_url=URL), max_retries=0
    )
    asked = [{"role": "system", "content": "w5"}, {"role": "user", "content": [{"type": "text", "text": "w9"}]}]
    said = official.chat.completions.create(model="parrot", messages=asked, temperature=0, max_completion_tokens=2)
    assert (said.choices[0].message.role, said.choices[0].message.content) == ("assistant", "w9 w9")
    chunks = list(
        official.chat.completions.create(model="parrot", messages=asked, temperature=0, max_tokens=2, stream=True)
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "w9 w9"
    assert official.chat.completions.create(model="parrot", messages=asked, temperature=0).usage.total_tokens == 16
    with pytest.raises(openai.BadRequestError, match="refuses these messages: no tools"):
        official.chat.completions.create(model="parrot", messages=[{"role": "tool", "content": "x"}])


def test_the_template_of_a_directory_is_rendered_as_transformers_does(tmp_path):
    names().save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert template_of(tmp_path) is None
    (tmp_path / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    )
    assert template_of(tmp_path)([{"role": "user", "content": "w5"}]) == "user: w5<|endoftext|>>"


# -- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"foo": 1}, "foo", "Unrecognized request argument supplied: foo"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"temperature": "hot"}, "temperature", "valid number"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"prompt": {"a": 1}}, "prompt", "valid string"),
        ({"prompt": []}, "prompt", ""),
        ({"prompt": [99]}, "prompt", "outside the vocabulary of 64"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 7}, None, "prompts times n is 7; this server takes at most 6"),
        ({"max_tokens": 5000}, "max_tokens", "writes at most 4096"),
        ({"max_tokens": -1}, "max_tokens", "greater than or equal to 0"),
        ({"stop": ""}, None, "stop string is empty"),
        ({"stop": ["x"] * 17}, "stop", ""),
        ({"stop": "x" * 1001}, "stop", "at most 1000 characters"),
        ({"logit_bias": {"5": 100}}, "logit_bias", ""),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "less than or equal to 0"),
        ({"best_of": 2}, "best_of", ""),
        ({"logprobs": 6}, "logprobs", "less than or equal to 5"),
    ],
)
def test_what_cannot_be_is_refused_with_the_name_of_the_field(client, fields, param, said):
    answer = ask(client, **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert said in error["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"prompt": "w5"', b"[1]", b'"w5"', b"\xff\xfe", b'{"prompt": "\\ud800"}']
)
def test_a_body_that_is_no_request_is_told_so(client, body):
    answer = client.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_fields_that_ask_for_nothing_are_taken(client):
    assert ask(client, frequency_penalty=0, presence_penalty=0.0, logit_bias={}, best_of=1, suffix=None, user="me",
               n=None, stop=None, seed=None, top_k=-1).status_code == 200  # fmt: skip
    assert ask(client, max_tokens=0, echo=True).json()["choices"][0]["text"] == "w5 w9"


def test_a_fault_of_the_server_itself_is_told_in_the_same_shape(make, monkeypatch):
    service = make(Gated())
    monkeypatch.setattr(service, "check", lambda request: {}["secret"])
    answer = TestClient(make_app(service), base_url=URL, raise_server_exceptions=False).get("/v1/models")
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
    assert "secret" not in answer.text


def test_other_paths_methods_and_kinds_are_errors_of_the_same_shape(client, make):
    for answer, status in [
        (client.get("/v1/nothing"), 404),
        (client.get("/v1/completions"), 405),
        (client.post("/v1/completions", data={"prompt": "w5"}), 415),
        (client.get("/v1/models/other"), 404),
    ]:
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    small = TestClient(make_app(make(Gated(), max_bytes=50)), base_url=URL)
    assert ask(small, user="x" * 50).status_code == 413


def test_without_a_token_only_names_of_this_machine_are_answered(client):
    for host in ("localhost:8000", "LOCALHOST", "127.0.0.1", "[::1]:8000", "[::1]"):
        assert client.get("/v1/models", headers={"Host": host}).status_code == 200, host
    for host in (
        "rebound.example:8000",
        "localhost.example",
        "127.0.0.1.example:80",
        "[::1",
        "",
        "x@localhost@evil.example",
    ):
        assert client.get("/v1/models", headers={"Host": host}).status_code == 403, host


def test_with_a_token_only_who_has_it_is_answered(make):
    client = TestClient(make_app(make(Gated(), token="sésame")), base_url="http://anywhere.example")
    assert client.get("/health").status_code == 200
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "sésam".encode()}):
        answer = client.get("/v1/models", headers=header)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "sésame" not in answer.text
    assert client.get("/v1/models", headers={"Authorization": "Bearer sésame".encode()}).status_code == 200
    assert client.get("/metrics").status_code == 401


def test_others_may_only_reach_it_with_a_token():
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        check_host(host, "")
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org"):
        assert not is_loopback(host)
        check_host(host, "token")
        with pytest.raises(ValueError, match="set STEMMA_SERVE_TOKEN"):
            check_host(host, "")


def test_a_port_that_is_taken_is_said():
    with listening("127.0.0.1", 0) as taken, pytest.raises(OSError, match="--port 0 takes a free one"):
        listening("127.0.0.1", taken.getsockname()[1])


# -- who is written beside whom ----------------------------------------------------------------------------------


def test_what_waits_together_is_written_in_one_batch(make):
    writer = Gated(gated=True)
    service, done = make(writer), threading.Semaphore(0)
    first, second, third = writer.rows("w5", "w6", "w7")
    tell = lambda piece: piece.finish_reason and done.release()  # noqa: E731
    service.engine.submit([first], tell)
    writer.wait_for_one()  # it is being written, alone
    service.engine.submit([second], tell)
    service.engine.submit([third], tell)
    writer.permits.release(4)
    for _ in range(3):
        assert done.acquire(timeout=60)
    assert writer.batches == [1, 3, 3, 2]  # the others joined it after its first token
    assert [row.text for row in (first, second, third)] == ["w5 w5 w5", "w6 w6 w6", "w7 w7 w7"]


def test_more_than_may_wait_is_told_to_come_again(make):
    writer = Gated(gated=True)
    service = make(writer, max_rows=1, max_waiting=1)
    running, waiting, refused = writer.rows("w5", "w6", "w7")
    service.engine.submit([running], lambda piece: None)
    writer.wait_for_one()
    service.engine.submit([waiting], lambda piece: None)
    with pytest.raises(BusyError, match="1 continuations are being written and 1 wait"):
        service.engine.submit([refused], lambda piece: None)
    client = TestClient(make_app(service), base_url=URL)
    answer = ask(client)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    assert int(answer.headers["Retry-After"]) >= 1
    assert client.get("/health").json()["rows_waiting"] == 1


def test_stopping_completes_what_is_written_and_refuses_what_waits(make):
    writer = Gated(gated=True)
    service, told = make(writer, max_rows=1), []
    running, waiting, late = writer.rows("w5", "w6", "w7")
    service.engine.submit([running], told.append)
    writer.wait_for_one()
    service.engine.submit([waiting], told.append)
    service.engine.stop()
    assert told[0].row is waiting
    with pytest.raises(StoppingError):
        service.engine.submit([late], told.append)
    writer.open()
    service.engine.join(60)
    assert not service.engine.is_alive
    assert (running.finish_reason, running.text) == ("length", "w5 w5 w5")
    assert not waiting.tokens
    client = TestClient(make_app(service), base_url=URL)
    assert ask(client).status_code == 503
    assert (client.get("/health").status_code, client.get("/health").json()["status"]) == (503, "ended")


def test_a_failure_is_told_and_the_next_request_is_answered(make, caplog):
    writer = Gated()
    client = TestClient(make_app(make(writer)), base_url=URL)
    writer.broken = True
    answer = ask(client)
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
    assert "no memory" not in answer.text
    assert "no memory" in caplog.text
    assert '"error"' in ask(client, stream=True).text
    writer.broken = False
    assert ask(client).json()["choices"][0]["text"] == "w9 w9 w9"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_stops_its_texts(make, stream):
    """By hand, message by message: the request, then the news that nobody listens any more."""
    writer = Gated(gated=True)
    service = make(writer)
    other = writer.rows("w7")[0]
    ended = threading.Event()

    async def talk():
        app, gone, sent = make_app(service), asyncio.Event(), []
        body = json.dumps({"prompt": ["w5", "w6"], "max_tokens": 12, "temperature": 0, "stream": stream}).encode()
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b"", "http_version": "1.1",
                 "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")], "scheme": "http",
                 "asgi": {"spec_version": "2.3"}, "root_path": "", "server": ("localhost", 80)}  # fmt: skip
        task = asyncio.create_task(app(scope, receive, send))
        for _ in range(2):
            await asyncio.to_thread(writer.wait_for_one)
        gone.set()
        await task

    asyncio.run(talk())
    service.engine.submit([other], lambda piece: piece.finish_reason and ended.set())
    writer.open()
    assert ended.wait(60)
    assert other.text == "w7 w7 w7"
    assert writer.batches[0] == 2
    assert set(writer.batches[1:]) == {1}  # both have left, long before their twelve tokens


# -- metrics -----------------------------------------------------------------------------------------------------


def test_metrics_count_requests_tokens_and_seconds(client):
    ask(client)
    ask(client, foo=1)
    said = client.get("/metrics").text.splitlines()
    assert 'stemma_requests_total{path="/v1/completions",status="200"} 1' in said
    assert 'stemma_requests_total{path="/v1/completions",status="400"} 1' in said
    assert "stemma_prompt_tokens_total 2" in said
    assert "stemma_generated_tokens_total 3" in said
    assert "stemma_first_token_seconds_count 1" in said


def test_a_histogram_cumulates():
    metrics = Metrics()
    for seconds in (0.005, 0.3, 0.5, 999.995):
        metrics.observe("request_seconds", seconds)
    said = metrics.text(rows_running=2, rows_waiting=0).splitlines()
    assert 'stemma_request_seconds_bucket{le="0.01"} 1' in said
    assert 'stemma_request_seconds_bucket{le="0.5"} 3' in said  # its bound belongs to it
    assert 'stemma_request_seconds_bucket{le="+Inf"} 4' in said
    assert "stemma_request_seconds_sum 1000.8" in said
    assert "stemma_rows_running 2" in said
    kinds = [line for line in said if line.startswith("# TYPE")]
    assert len(kinds) == len(set(kinds)) == 8
