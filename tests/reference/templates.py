#!/usr/bin/env python3
"""Chat templates rendered by Jinja2 as the transformers library sets it up, for tests/tests/templates.rs.

    templates.py [--gguf FILE...]      writes expected/templates.json

templates/*.jinja are written in the styles of public families. Needs jinja2, and gguf for the templates of files; of those, only the results
are kept beside the file's name. Jinja2 3.1.6 wrote what is stored."""
import argparse
import json
import pathlib

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).resolve().parent
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "The weather of a <place> & \"more\"", "parameters": {
    "type": "object", "properties": {"place": {"type": "string", "enum": ["Köln", "東京"]}, "days": {"type": "integer", "default": 3}},
    "required": ["place"]}}}]


def say(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


CONVERSATIONS = [
    say(("user", "Hello")),
    say(("system", "Be brief."), ("user", "Hello")),
    say(("user", "Hello"), ("assistant", "Hi there!"), ("user", "How are you?")),
    say(("system", "You are a pirate. /no_think"), ("user", " 1 + 1?\n"), ("assistant", "<think>\nsum\n</think>\n\n2 "), ("user", "And\n\n2 + 2? ")),
    say(("user", "Größe, 東京, 🙂 <|im_end|> {{ x }} {% if %}"), ("assistant", "\n\nдa\t")),
    say(("assistant", "I begin."), ("user", "Not so.")),
    say(("user", "a"), ("user", "b")),
    say(("user", ""), ("assistant", ""), ("user", "x" * 40)),
]
# Whether an answer is to follow, and what the template is given beside.
VARIANTS = [(True, {"date_string": "26 Jul 2024"}), (False, {"date_string": "26 Jul 2024"}),
            (True, {"tools": TOOLS, "date_string": "1 May 2025", "enable_thinking": False})]


class Generation(Extension):
    """`{% generation %}` shows what it holds."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_show"), [], [], body).set_lineno(line)

    def _show(self, caller):
        return caller()


class Refused(Exception):
    pass


def environment():
    def raise_exception(message):
        raise Refused(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def rendered(source):
    """Results of all conversations in all variants: text, or what was refused."""
    template, rows = environment().from_string(source), []
    for messages in CONVERSATIONS:
        for answer, more in VARIANTS:
            given = {"tools": None, "documents": None, **SPECIAL, **more}
            try:
                row = {"text": template.render(messages=messages, add_generation_prompt=answer, **given)}
            except Refused as e:
                row = {"refused": str(e)}
            except jinja2.TemplateError as e:
                row = {"error": str(e)}
            rows.append(row)
    return rows


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--gguf", nargs="*", type=pathlib.Path, default=[])
    args = p.parse_args()
    sources = {path.stem: path.read_text() for path in sorted((HERE / "templates").glob("*.jinja"))}
    for path in args.gguf:
        import gguf
        field = gguf.GGUFReader(path).fields.get("tokenizer.chat_template")
        if field is not None:
            sources[path.name] = field.contents()
    out = {"special": SPECIAL, "conversations": CONVERSATIONS, "variants": [[answer, json.dumps(more, ensure_ascii=False)] for answer, more in VARIANTS], "templates": {}}
    for name, source in sources.items():
        rows = rendered(source)
        out["templates"][name] = rows
        print(name, sum("text" in row for row in rows), "rendered,", sum("refused" in row for row in rows), "refused,",
              [row["error"] for row in rows if "error" in row][:1])
    (HERE / "expected" / "templates.json").write_text(json.dumps(out, ensure_ascii=False, indent=0) + "\n")


if __name__ == "__main__":
    main()
