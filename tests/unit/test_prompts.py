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
    def test_a_file_is_filled_in_and_has_the_hash_of_its_source_as_version(self, tmp_path):
        config = config_with(tmp_path, **{"de/b.md": "Grade {{ metadata.grade }}: {{ index }} of {{ total }}\n"})

        prompt = render(config, "file:de/b.md", {"metadata": {"grade": 7}, "index": 1, "total": 3})

        assert prompt.text == "Grade 7: 1 of 3"
        source = b"Grade {{ metadata.grade }}: {{ index }} of {{ total }}\n"
        assert prompt.version == hashlib.sha256(source).hexdigest()[:12]
        assert source_of(config, "file:de/b.md") == source.decode()

    @given(text=some.text())
    def test_any_other_text_stays_as_it_is(self, text):
        said = f"{{{{ {text} }}}}"

        assert render(PLAIN, said, {}).text == said == source_of(PLAIN, said)

    def test_a_folder_of_another_name_is_named_in_the_configuration(self, tmp_path):
        (tmp_path / "words").mkdir()
        (tmp_path / "words" / "a.md").write_text("You are A.")

        config = parse(f"{SMALL}prompts: words\n", folder=tmp_path)

        assert render(config, "file:a.md", {}).text == "You are A."

    def test_a_folder_that_is_named_must_be_there(self, tmp_path):
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
            ({"x.md": b"\xff\xfe"}, "x.md:1: is not UTF-8 text"),
            ({"x.md": "x" * (MOST_BYTES + 1)}, "x.md:1: has 262,145 bytes, the limit is 262,144"),
            ({"x y.md": "x"}, "x y.md:1: its name must be letters"),
        ],
    )
    def test_a_problem_is_told_with_file_and_line(self, tmp_path, files, problem):
        (told,) = problems_of(tmp_path, **files)
        assert told.startswith(problem)

    def test_all_problems_are_told_at_once(self, tmp_path):
        assert len(problems_of(tmp_path, **{"x.md": "{{ x }}{{ y }}", "z.md": "{%"})) == 3

    def test_a_link_that_leads_out_of_the_folder_is_refused(self, tmp_path):
        (tmp_path / "secret").write_text("key")
        (tmp_path / "prompts").mkdir()
        (tmp_path / "prompts" / "x.md").symlink_to(tmp_path / "secret")

        assert problems_of(tmp_path) == ["x.md:1: is a link that leads out of its folder; copy the file here"]

    def test_a_link_inside_the_folder_is_followed_as_mounted_volumes_have_them(self, tmp_path):
        (tmp_path / "prompts" / ".2026").mkdir(parents=True)
        (tmp_path / "prompts" / ".2026" / "x.md").write_text("mounted")
        (tmp_path / "prompts" / "x.md").symlink_to(".2026/x.md")

        assert render(config_with(tmp_path), "file:x.md", {}).text == "mounted"


class TestNames:
    def test_a_route_that_names_no_file_is_a_problem_of_the_configuration(self, tmp_path):
        told = r"^p\.yaml:4: routes\.a\.prompt: there is no prompt 'file:b\.md'; allowed: file:a\.md"
        with pytest.raises(ConfigError, match=told):
            config_with(tmp_path, text=SMALL.replace("file:a.md", "file:b.md"))

    @pytest.mark.parametrize("name", ["file:../a.md", "file:/etc/passwd", "file:b.md", "file:"])
    def test_nothing_else_than_what_was_read_has_a_name(self, tmp_path, name):
        config = config_with(tmp_path)

        with pytest.raises(BadInput, match=r"^prompt: there is no prompt .*; allowed: file:a\.md$"):
            check_prompt(config, name, at="prompt")
        with pytest.raises(PromptError, match="there is no prompt"):
            render(config, name, {})

    def test_the_prompts_of_a_job_are_found_wherever_they_stand(self, tmp_path):
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
    def test_lists_and_objects_are_written_as_json_and_nothing_is_escaped(self):
        assert filled("{{ metadata.a }} {{ metadata.b }}", metadata={"a": ["ü", 1], "b": "<&>"}) == '["ü", 1] <&>'
        assert filled("{{ metadata|tojson }}", metadata={"a": "<ü>"}) == '{"a": "<ü>"}'
        assert filled("{{ metadata.no }}{{ metadata.yes }}", metadata={"no": None, "yes": True}) == "true"

    def test_an_entry_goes_before_a_method_of_the_same_name(self):
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
    def test_what_could_reach_out_or_change_something_fails(self, source):
        with pytest.raises(PromptError):
            filled(source, metadata={"a": "x"})

    @pytest.mark.parametrize("source", ["{{ lipsum() }}", "{{ cycler(1) }}", "{{ [1, 2]|random }}"])
    def test_a_template_gives_the_same_text_every_time(self, source):
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
    def test_names_that_a_template_sets_itself_are_known(self, source, text):
        assert filled(source, metadata={"list": ["a", "b"]}) == text

    @pytest.mark.parametrize(
        ("source", "told"),
        [
            ("one\n{{ metadata.grade }}", "prompt file:x.md, line 2: 'grade' is undefined"),
            ("{{ metadata[metadata.a] }}", "prompt file:x.md: a variable is undefined"),
            ("{{ metadata.a + 1 }}", "prompt file:x.md: can't be filled in (TypeError)"),
            ("{{ 1 / 0 }}", "prompt file:x.md: can't be filled in (ZeroDivisionError)"),
        ],
    )
    def test_what_can_t_be_filled_in_names_the_variable_and_no_value(self, source, told):
        with pytest.raises(PromptError) as caught:
            filled(source, metadata={"a": "secret"})

        assert str(caught.value) == told

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
    def test_what_is_undefined_is_false_in_a_condition(self, source, holds):
        expression, problems = compile_expression(source, name="x", known={"metadata"})

        assert problems == []
        assert expression.holds({"metadata": {"a": "1", "list": [1, 2], "none": None}}) is holds

    @pytest.mark.parametrize("source", ["a b", "x)", "{{ metadata }}", "1 +", ""])
    def test_what_is_no_expression_is_told(self, source):
        assert compile_expression(source, name="x", known={"metadata"})[1]

    @given(source=some.text(alphabet="{}%#-| \nabmetd.()[]'\"1+", max_size=40))
    def test_any_source_compiles_or_is_told_and_renders_or_fails_as_it_should(self, source):
        template, problems = compile_template(source, name="x", known={"metadata"})

        assert (template is None) == bool(problems)
        if template is not None:
            with contextlib.suppress(PromptError):
                template.render({"metadata": {"a": 1}})
