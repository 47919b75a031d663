"""Prompts as files: what is read, what is filled in, and that nothing of a job shows in what goes wrong."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tasks.config.prompts import check_prompt, check_prompts, prompts_in, render, source_of
from tasks.config.templates import compile_expression, compile_template
from tasks.contract.errors import BadInput, ConfigError, PromptError
from tasks.loading.load import parse
from tasks.loading.load_prompts import MOST_BYTES

SMALL = """\
models:
  fast: {provider: simulated}
routes:
  a: {models: [fast], prompt: "file:a.md"}
default_route: a
"""
PLAIN = parse(SMALL.replace("file:a.md", "You are A."))


def config_with(folder, *, text=SMALL, **files):
    """A configuration whose folder of prompts has these files."""
    for name, source in {"a.md": "You are A.", **files}.items():
        path = folder / "prompts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return parse(text, source="p.yaml", folder=folder)


def problems_of(folder, **files):
    with pytest.raises(ConfigError) as caught:
        config_with(folder, **files)
    return [line.removeprefix(f"{folder / 'prompts'}/") for line in str(caught.value).splitlines()]


def filled(source, **variables):
    template, problems = compile_template(source, name="prompt file:x.md", known=variables.keys() | {"metadata"})
    assert problems == []
    return template.render(variables)


class TestFiles:
    def test_render_fills_in_a_file_with_the_version_of_its_source(self, tmp_path):
        config = config_with(tmp_path, **{"de/b.md": "Grade {{ metadata.grade }}: {{ index }} of {{ total }}\n"})

        prompt = render(config, "file:de/b.md", {"metadata": {"grade": 7}, "index": 1, "total": 3})

        assert prompt.text == "Grade 7: 1 of 3"
        source = b"Grade {{ metadata.grade }}: {{ index }} of {{ total }}\n"
        assert prompt.version == hashlib.sha256(source).hexdigest()[:12]
        assert source_of(config, "file:de/b.md") == source.decode()

    @given(text=some.text())
    def test_render_leaves_other_texts_unchanged(self, text):
        quoted = f"{{{{ {text} }}}}"

        assert render(PLAIN, quoted, {}).text == quoted == source_of(PLAIN, quoted)

    def test_prompts_folder_can_be_configured(self, tmp_path):
        (tmp_path / "words").mkdir()
        (tmp_path / "words" / "a.md").write_text("You are A.")

        config = parse(f"{SMALL}prompts: words\n", folder=tmp_path)

        assert render(config, "file:a.md", {}).text == "You are A."

    def test_configured_prompts_folder_must_exist(self, tmp_path):
        with pytest.raises(ConfigError, match=r"^p\.yaml:6: prompts: there is no folder nowhere"):
            parse(f"{SMALL}prompts: nowhere\n", source="p.yaml", folder=tmp_path)

    def test_hidden_files_are_left_out(self, tmp_path):
        assert set(config_with(tmp_path, **{".notes": "{{", ".git/x": b"\xff"}).library.prompts) == {"a.md"}

    @pytest.mark.parametrize(
        ("files", "problem"),
        [
            ({"x.md": "one\n{{ metadata.x"}, "x.md:2: is no template: unexpected end of template"),
            ({"x.md": "one\n{{ meta.x }}"}, "x.md:2: 'meta' is not a variable here; there are: index, kind, labels,"),
            ({"x.md": "{{ title|nix }}"}, "x.md:1: there is no filter 'nix'"),
            ({"x.md": "{% if title is nix %}{% endif %}"}, "x.md:1: there is no test 'nix'"),
            ({"x.md": '{% include "a.md" %}'}, "x.md:1: a template stands alone"),
            ({"x.md": b"\xff\xfe\x00"}, "x.md:1: is not UTF-8 text"),
            ({"x.md": "x" * (MOST_BYTES + 1)}, "x.md:1: has 262,145 bytes, the limit is 262,144"),
            ({"x y.md": "x"}, "x y.md:1: its name must be letters"),
        ],
    )
    def test_read_prompts_reports_problems_with_file_and_line(self, tmp_path, files, problem):
        (line,) = problems_of(tmp_path, **files)
        assert line.startswith(problem)

    def test_read_prompts_reports_all_problems_at_once(self, tmp_path):
        assert len(problems_of(tmp_path, **{"x.md": "{{ x }}{{ y }}", "z.md": "{%"})) == 3

    def test_link_out_of_the_folder_is_refused(self, tmp_path):
        (tmp_path / "secret").write_text("key")
        (tmp_path / "prompts").mkdir()
        (tmp_path / "prompts" / "x.md").symlink_to(tmp_path / "secret")

        assert problems_of(tmp_path) == ["x.md:1: is a link that leads out of its folder; copy the file here"]

    def test_link_inside_the_folder_is_followed(self, tmp_path):
        (tmp_path / "prompts" / ".2026").mkdir(parents=True)
        (tmp_path / "prompts" / ".2026" / "x.md").write_text("mounted")
        (tmp_path / "prompts" / "x.md").symlink_to(".2026/x.md")

        assert render(config_with(tmp_path), "file:x.md", {}).text == "mounted"


class TestNames:
    def test_route_with_a_missing_prompt_is_a_configuration_problem(self, tmp_path):
        message = r"^p\.yaml:4: routes\.a\.prompt: there is no prompt 'file:b\.md'; allowed: file:a\.md"
        with pytest.raises(ConfigError, match=message):
            config_with(tmp_path, text=SMALL.replace("file:a.md", "file:b.md"))

    @pytest.mark.parametrize("name", ["file:../a.md", "file:/etc/passwd", "file:b.md", "file:"])
    def test_check_prompt_knows_only_the_files_that_were_read(self, tmp_path, name):
        config = config_with(tmp_path)

        with pytest.raises(BadInput, match=r"^prompt: there is no prompt .*; allowed: file:a\.md$"):
            check_prompt(config, name, at="prompt")
        with pytest.raises(PromptError, match="there is no prompt"):
            render(config, name, {})

    def test_prompts_in_finds_every_prompt_of_a_job(self, tmp_path):
        job = {
            "prompt": "1",
            "text": "prompt",
            "items": ["x", {"text": "y", "prompt": "2"}],
            "variety": {"prompts": ["3", "4"], "models": ["5"]},
            "join_options": {"prompt": "6", "reduce_prompt": "7", "fan_in": 8},
            "split_options": {"prompt": "9"},
            "each": {"prompt": "10", "each": {"variety": {"prompts": ["11"]}}},
            "metadata": {"prompt": "12"},
        }

        assert list(prompts_in(job)) == [
            ("prompt", "1"),
            ("items[1].prompt", "2"),
            ("variety.prompts[0]", "3"),
            ("variety.prompts[1]", "4"),
            ("join_options.prompt", "6"),
            ("join_options.reduce_prompt", "7"),
            ("split_options.prompt", "9"),
            ("each.prompt", "10"),
            ("each.each.variety.prompts[0]", "11"),
        ]
        with pytest.raises(BadInput, match=r"^\[3\]\.each\.prompt: there is no prompt 'file:x'"):
            check_prompts({"each": {"prompt": "file:x"}}, config_with(tmp_path), at="[3]")


class TestSandbox:
    def test_template_writes_lists_and_objects_as_unescaped_json(self):
        assert filled("{{ metadata.a }} {{ metadata.b }}", metadata={"a": ["ü", 1], "b": "<&>"}) == '["ü", 1] <&>'
        assert filled("{{ metadata|tojson }}", metadata={"a": "<ü>"}) == '{"a": "<ü>"}'
        assert filled("{{ metadata.no }}{{ metadata.yes }}", metadata={"no": None, "yes": True}) == "true"

    def test_template_prefers_an_entry_to_a_method_of_that_name(self):
        assert filled("{{ metadata.items }}", metadata={"items": [1]}) == "[1]"
        assert filled("{% for k, v in metadata.items() %}{{ k }}{{ v }}{% endfor %}", metadata={"a": 1}) == "a1"

    @pytest.mark.parametrize(
        "source",
        [
            "{{ metadata.__class__ }}",
            "{{ ''.__class__.__mro__ }}",
            "{{ metadata.update({'a': 1}) }}",
            "{{ metadata.pop('a') }}",
            "{{ metadata.a.format_map(metadata) if metadata.a.b }}",
            "{{ range(10000000) }}",
        ],
    )
    def test_template_refuses_access_to_anything_but_its_variables(self, source):
        with pytest.raises(PromptError):
            filled(source, metadata={"a": "x"})

    @pytest.mark.parametrize("source", ["{{ lipsum() }}", "{{ cycler(1) }}", "{{ [1, 2]|random }}"])
    def test_template_refuses_random_results(self, source):
        assert compile_template(source, name="x", known=())[1]

    @pytest.mark.parametrize(
        ("source", "text"),
        [
            ("{% for x in metadata.list %}{{ loop.index }}{{ x }}{% endfor %}", "1a2b"),
            ("{% set n = metadata.list|length %}{{ n }}", "2"),
            ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('a') }}", "<a>"),
            ("{% set a = namespace(n=0) %}{% for i in range(3) %}{% set a.n = i %}{% endfor %}{{ a.n }}", "2"),
        ],
    )
    def test_template_knows_the_names_that_it_sets(self, source, text):
        assert filled(source, metadata={"list": ["a", "b"]}) == text

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("one\n{{ metadata.grade }}", "prompt file:x.md, line 2: 'grade' is undefined"),
            ("{{ metadata[metadata.a] }}", "prompt file:x.md: a variable is undefined"),
            ("{{ metadata.a + 1 }}", "prompt file:x.md: can't be filled in (TypeError)"),
            ("{{ 1 / 0 }}", "prompt file:x.md: can't be filled in (ZeroDivisionError)"),
        ],
    )
    def test_render_error_names_the_variable_and_no_value(self, source, message):
        with pytest.raises(PromptError) as caught:
            filled(source, metadata={"a": "secret"})

        assert str(caught.value) == message

    @pytest.mark.parametrize(
        ("source", "holds"),
        [
            ("metadata.a.b.c", False),
            ("metadata.a", True),
            ("not metadata.x", True),
            ("metadata.list|length > 1", True),
            ("metadata.none.more", False),
        ],
    )
    def test_undefined_variable_is_false_in_a_condition(self, source, holds):
        expression, problems = compile_expression(source, name="x", known={"metadata"})

        assert problems == []
        assert expression.holds({"metadata": {"a": "1", "list": [1, 2], "none": None}}) is holds

    @pytest.mark.parametrize("source", ["a b", "x)", "{{ metadata }}", "1 +", ""])
    def test_compile_expression_reports_invalid_expressions(self, source):
        assert compile_expression(source, name="x", known={"metadata"})[1]

    @given(source=some.text(alphabet="{}%#-| \nabmetd.()[]'\"1+", max_size=40))
    def test_template_of_any_source_compiles_or_has_problems(self, source):
        template, problems = compile_template(source, name="x", known={"metadata"})

        assert (template is None) == bool(problems)
        if template is not None:
            with contextlib.suppress(PromptError):
                template.render({"metadata": {"a": 1}})
