"""The configuration: the problems of invalid files, and the files that load."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from tasks.config.secrets import read_secret
from tasks.contract.errors import ConfigError
from tasks.loading.load import json_schema, load, parse

REPOSITORY = Path(__file__).parents[2]

#: The least that stays valid for ever.
MINIMAL = """\
models:
  fast:
    provider: openai                 # openai | anthropic | gemini | simulated | local
    model: some-model-name           # the provider's name for it
    base_url: http://127.0.0.1:9801/v1
    api_key_env: OPENAI_API_KEY      # optional
    capacity: 64                     # calls in flight
    rpm: 600
    tpm: 100000
    price: {input: 0.15, output: 0.60}          # USD per million tokens
    profile: {speed: 90, accuracy: 70, creativity: 60, ethics: 80}
routes:
  billing:
    description: invoices, charges, refunds
    keywords: [invoice, refund]
    examples: ["Why was I charged twice?"]
    prompt: You answer billing questions.
    models: [fast]
    strategy: least_latency
default_route: billing
"""
#: As far as this version has strategies.
SUPPORTED = MINIMAL.replace("least_latency", "least_connections")

SMALL = """\
models:
  fast: {provider: simulated}
routes:
  a: {models: [fast]}
default_route: a
"""


def problems_of(text):
    with pytest.raises(ConfigError) as caught:
        parse(text, source="p.yaml")
    return str(caught.value).splitlines()


def test_parse_of_the_smallest_file_fills_in_defaults():
    config = parse(SUPPORTED)
    assert config.models["fast"].capacity == 64
    assert config.candidates("billing") == ("fast",)
    assert config.limits.payload_bytes == 8 * 1024 * 1024


@pytest.mark.parametrize("text", [SUPPORTED, SMALL])
def test_json_schema_accepts_valid_files(text):
    jsonschema.validate(yaml.safe_load(text), json_schema())


@pytest.mark.parametrize("file", sorted([*REPOSITORY.glob("*.yaml"), *REPOSITORY.glob("ops/demo/*.yaml")]), ids=str)
def test_shipped_configurations_load_and_fit_the_json_schema(file):
    load(file)
    jsonschema.validate(yaml.safe_load(file.read_text()), json_schema())


def test_json_schema_refuses_an_unknown_field():
    with pytest.raises(jsonschema.ValidationError, match="colour"):
        jsonschema.validate(yaml.safe_load(SMALL) | {"colour": "red"}, json_schema())
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_problem_has_file_line_field_and_allowed_values():
    (problem,) = problems_of(SMALL.replace("provider: simulated", "provider: simulated, colour: red"))
    assert problem.startswith("p.yaml:2: models.fast.colour: is not a field here; allowed: provider, model, base_url, ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (SMALL.replace("[fast]", "[fast, slow]"), "p.yaml:4: routes.a.models[1]: 'slow' is not a model; allowed: fast"),
        (SMALL.replace("[fast]", "[fast], strategy: best"),
         "p.yaml:4: routes.a.strategy: 'best' is not a strategy; allowed: adaptive, consistent_hash"),
        (SMALL.replace("default_route: a", "default_route: b"),
         "p.yaml:5: default_route: 'b' is not a route; allowed: a"),
        (SMALL.replace("default_route: a", ""), "p.yaml:1: default_route: is missing"),
        (SMALL.replace("fast:", "Fast!:").replace("[fast]", "['Fast!']"),
         "p.yaml:2: models.Fast!: a name is lower case letters, digits, '.', '_' and '-', at most 64"),
        ('models: {"a\\n": {provider: simulated}}\nroutes: {a: {models: ["a\\n"]}}\ndefault_route: a\n',
         "p.yaml:1: models.a"),
        (SMALL.replace("fast", "auto"),
         "p.yaml:2: models.auto: auto is the word for a model that routing chooses; use another name"),
        (SMALL.replace("simulated", "openai"), "p.yaml:2: models.fast: base_url is needed for provider openai"),
        (SMALL.replace("simulated", "local, base_url: ftp://x"), "p.yaml:2: models.fast: base_url must start"),
        (SMALL.replace("simulated", "local, simulation: {}"),
         "p.yaml:2: models.fast: simulation goes with provider simulated alone"),
        (SMALL.replace("simulated", "simulated, capacity: 0"), "p.yaml:2: models.fast.capacity: input should be"),
        (SMALL.replace("[fast]", "[fast], keywords: [' ']"), "p.yaml:4: routes.a.keywords: an entry is blank"),
        (SMALL + "schedules: {s: {cron: '* * *', batch: x}}", "p.yaml:6: schedules.s.cron: needs five fields"),
        (SMALL + "schedules: {s: {cron: '99 * * * *', batch: x}}", "p.yaml:6: schedules.s.cron: is not a cron"),
        (SMALL + "schedules: {s: {cron: '* * * * *', batch: x, timezone: Mars}}",
         "p.yaml:6: schedules.s.timezone: is not a time zone"),
        (SMALL + "folder: /", "p.yaml:6: folder: is not a field here; allowed: models, routes, default_route"),
        (SMALL + "limits: {bytes: 1}", "p.yaml:6: limits.bytes: is not a field here; allowed: payload_bytes, parts,"),
        ("", "p.yaml:1: must be a mapping with models, routes and default_route"),
        ("- a", "p.yaml:1: must be a mapping"),
        (SMALL.replace("[fast]", "fast"), "p.yaml:4: routes.a.models: must be a list"),
        ("a: [", "p.yaml:1: not YAML: "),
        (SMALL + "x: !!python/name:os.system", "p.yaml:6: not YAML: could not determine a constructor"),
        (SMALL + "? [a]\n: b", "p.yaml:6: not YAML: found unhashable key"),
        (SMALL + "x: 2024-99-99", "p.yaml:1: not YAML: month must be in 1..12"),
        ("a: &a [*a]", "p.yaml:1: nested too deeply, or an alias that holds itself"),
    ],
)  # fmt: skip
def test_parse_reports_each_kind_of_mistake(text, problem):
    assert problems_of(text)[0].startswith(problem)


def test_parse_reports_all_problems_in_the_order_of_lines():
    text = """\
models:
  fast: {provider: simulated, colour: red}
  fast: {provider: simulated, size: 1}
routes:
  price: {models: [slow], colour: red}
default_route: b
"""
    problems = problems_of(text)
    assert [line.split(": ")[:2] for line in problems] == [
        ["p.yaml:3", "models.fast"],
        ["p.yaml:3", "models.fast.size"],
        ["p.yaml:5", "routes.price.colour"],
        ["p.yaml:5", "routes.price.models[0]"],
        ["p.yaml:6", "default_route"],
    ]
    assert problems[0].endswith("stands twice")
    # Of a route, whatever its name.
    assert "allowed: description, keywords" in problems[2]


def test_duplicate_key_is_a_problem_of_an_otherwise_valid_file():
    assert problems_of(SMALL + "default_route: a\n") == ["p.yaml:6: default_route: stands twice"]


def test_load_reads_a_file_and_keeps_its_folder(tmp_path):
    (tmp_path / "p.yaml").write_text(SMALL)
    assert load(tmp_path / "p.yaml").folder == tmp_path


def test_load_of_a_missing_file_says_how_to_name_one(tmp_path):
    with pytest.raises(ConfigError, match="no such file; name one with --config or POINTSMAN_CONFIG"):
        load(tmp_path / "p.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="can't be read"):
        load(tmp_path / "bytes.yaml")
    with pytest.raises(ConfigError, match="can't be read"):
        load(tmp_path)


def test_secret_comes_from_the_environment_or_a_file_named_there(monkeypatch, tmp_path):
    monkeypatch.delenv("SOME_KEY", raising=False)
    monkeypatch.delenv("SOME_KEY_FILE", raising=False)
    assert read_secret("SOME_KEY") is None
    monkeypatch.setenv("SOME_KEY", "one")
    assert read_secret("SOME_KEY") == "one"
    (tmp_path / "key").write_text("two\n")
    monkeypatch.setenv("SOME_KEY_FILE", str(tmp_path / "key"))
    assert read_secret("SOME_KEY") == "two"
    (tmp_path / "key").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"^SOME_KEY_FILE: is not UTF-8"):
        read_secret("SOME_KEY")
    (tmp_path / "key").unlink()
    with pytest.raises(ConfigError, match=r"^SOME_KEY_FILE: No such file"):
        read_secret("SOME_KEY")


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("price: {input: -1}", "models.fast.price.input: input should be greater than or equal to 0"),
        ("price: {output: .inf}", "models.fast.price.output:"),
        ("price: {cached: 1e9}", "models.fast.price.cached: input should be less than or equal to 100000"),
        ("budget_usd_per_day: 0", "models.fast.budget_usd_per_day: input should be greater than 0"),
        ("budget_usd_per_day: .nan", "models.fast.budget_usd_per_day:"),
        ("rpm: 0", "models.fast.rpm:"),
        ("hedge: {after: p99}", "models.fast.hedge.after"),
        ("hedge: {after: 0}", "models.fast.hedge.after"),
        ("hedge: {budget: 2}", "models.fast.hedge.budget:"),
        ("breaker: {error_rate: 0}", "models.fast.breaker.error_rate:"),
        ("breaker: {errors: 3}", "models.fast.breaker.errors: is not a field here; allowed: error_rate, attempts"),
    ],
)
def test_absurd_limits_and_prices_are_refused_with_their_field(model, problem):
    text = SMALL.replace("provider: simulated", f"provider: simulated, {model}")
    assert any(problem in line for line in problems_of(text)), problems_of(text)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("provider: antropic", "models.fast.provider: input should be 'openai', 'anthropic', 'gemini', 'simulated'"),
        ("provider: anthropic, api_version: latest", "models.fast.api_version: must be a date, for example 2023-06-01"),
        (
            "provider: gemini, api_version: 2023-06-01",
            "models.fast: api_version goes with provider anthropic, or with dialect azure",
        ),
        ("provider: gemini, base_url: generativelanguage", "models.fast: base_url must start with http:// or https://"),
        ("provider: anthropic, simulation: {rpm: 5}", "models.fast: simulation goes with provider simulated alone"),
        ("provider: simulated, simulation: {rpm: 0}", "models.fast.simulation.rpm: input should be greater than"),
        ("provider: anthropic, tpm: lots", "models.fast.tpm: input should be a valid integer"),
        ("provider: anthropic, connect_timeout: 0", "models.fast.connect_timeout: input should be greater than 0"),
        ("provider: anthropic, first_byte_timeout: 4000", "models.fast.first_byte_timeout: input should be less than"),
        (
            "provider: anthropic, price: {cache: 1}",
            "models.fast.price.cache: is not a field here; allowed: input, cached",
        ),
        ("provider: anthropic, hedge: yes", "models.fast.hedge: must be a mapping with some of after, budget"),
        ("provider: anthropic, key: x", "models.fast.key: is not a field here; allowed: provider, model, base_url,"),
    ],
)
def test_mistakes_in_a_model_are_reported_with_their_line(model, problem):
    problems = problems_of(SMALL.replace("  fast: {provider: simulated}", f"  fast:\n    {{{model}}}"))
    assert len(problems) == 1
    line, rest = problems[0].removeprefix("p.yaml:").split(": ", 1)
    assert line in {"2", "3"}
    assert rest.startswith(problem)


@pytest.mark.parametrize("written", ["2026-10-21", "'2026-10-21'"])
def test_api_version_is_read_with_quotes_and_without(written):
    config = parse(SMALL.replace("provider: simulated", f"provider: anthropic, api_version: {written}"))
    assert config.models["fast"].api_version == "2026-10-21"


def test_key_limits_of_an_unused_key_are_a_mistake():
    keyed = SMALL.replace("provider: simulated", "provider: simulated, api_key_env: SOME_KEY")
    assert parse(keyed + "keys: {SOME_KEY: {rpm: 60}}").keys["SOME_KEY"].rpm == 60
    (problem,) = problems_of(keyed + "keys: {SOME_KAY: {rpm: 60}}")
    assert problem == "p.yaml:6: keys.SOME_KAY: no model names it as api_key_env; those that are named: SOME_KEY"


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("capacity: true", "models.fast.capacity: input should be a valid integer, not true or false"),
        ("capacity: on", "models.fast.capacity: input should be a valid integer, not true or false"),
        ("rpm: '600'", "models.fast.rpm: input should be a valid integer, not a text"),
        ("weight: yes", "models.fast.weight: input should be a valid number, not true or false"),
        ("price: {input: false}", "models.fast.price.input: input should be a valid number, not true or false"),
        ("hedge: {after: true}", "models.fast.hedge.after: input should be a valid number or word, not true or false"),
        (
            "simulation: {per_token_s: true}",
            "models.fast.simulation.per_token_s: input should be a valid number, not true or false",
        ),
        (
            "simulation: {latency: {distribution: constant, seconds: true}}",
            "input should be a valid number, not true or false",
        ),
        ("capacity: .nan", "models.fast.capacity: input should be a finite number"),
        ("timeout: .inf", "models.fast.timeout: input should be less than or equal to 3600"),
        ("budget_usd_per_day: .inf", "models.fast.budget_usd_per_day: "),
        ("capacity: " + "9" * 5000, "not YAML: Exceeds the limit"),
    ],
)
def test_parse_refuses_what_is_no_number(field, problem):
    (line,) = problems_of(SMALL.replace("provider: simulated", f"provider: simulated, {field}"))
    assert problem in line


def test_parse_reads_an_exponent_as_a_number():
    fast = parse(SMALL.replace("provider: simulated", "provider: simulated, rpm: 1e3, timeout: 1.2e+2")).models["fast"]
    assert (fast.rpm, fast.timeout) == (1000, 120.0)
