//! What needs no reference. Against Jinja2: `tests/tests/templates.rs`.

use super::*;

fn template(source: &str) -> Result<ChatTemplate, TemplateError> {
    ChatTemplate::new(source, BTreeMap::new())
}

fn error(source: &str) -> String {
    let said = [Message::new("system", "s"), Message::new("user", "u")];
    let rendered = template(source).and_then(|t| t.render(&said, true, None));
    rendered.unwrap_err().to_string()
}

#[test]
fn errors_say_the_line_and_what_was_given() {
    assert_eq!(
        error("{% if true %}\n\n{{ raise_exception('no system role') }}{% endif %}"),
        "the chat template, line 3: no system role; it was given 2 messages (system, user)"
    );
    let syntax = error("a\n{% if %}");
    assert!(syntax.starts_with("the chat template, line 2: "), "{syntax}");
    let missing = error("\n{{ messages[0].content.nothing() }}");
    assert!(missing.contains("line 2") && missing.contains("(system, user)"), "{missing}");
}

#[test]
fn templates_that_do_not_end_do() {
    let endless =
        error("{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}{% endfor %}{% endfor %}");
    assert!(endless.contains("did not end"), "{endless}");
    let deep = error("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    assert!(deep.contains("line 1"), "{deep}");
    assert!(template(&" ".repeat(MOST + 1)).is_err());
}

#[test]
fn what_is_marked_to_be_learned_is_shown() {
    let source = "a {%- generation -%} b {% endgeneration %}\nc{%generation%}d{%+ endgeneration -%} e";
    assert_eq!(without_marks(source), "a {%- if true -%} b {% endif %}\nc{%if true%}d{%+ endif -%} e");
    assert!(matches!(
        without_marks("{% set generation = 1 %}{% generation_x %}").as_ref(),
        "{% set generation = 1 %}{% generation_x %}"
    ));
    assert!(matches!(without_marks("plain"), Cow::Borrowed("plain")));
}

#[test]
fn keys_keep_their_order() {
    let source = template("{{ tools | tojson }}").unwrap();
    let rendered = source.render(&[], false, Some(r#"{"tools": [{"b": 1, "a": {"z": 0, "y": null}}]}"#));
    assert_eq!(rendered.unwrap(), r#"[{"b": 1, "a": {"z": 0, "y": null}}]"#);
    assert!(
        source.render(&[], false, Some("[1]")).unwrap_err().to_string().contains("a JSON object is expected")
    );
}

#[test]
fn the_time_is_told() {
    let rendered = template("{{ strftime_now('%Y') }}").unwrap().render(&[], false, None);
    assert!(rendered.unwrap().parse::<u32>().unwrap() >= 2024);
}
