//! Options on a command line: told apart by tables, which also make the help.
//!
//! The usual crate for this is an eighth of a binary that is to stay below 3 MB. The conventions are those of
//! getopt: `--mem 8MB`, `--mem=8MB`, `-t 2`, `-t2`, `-vv`, `--` before operands that start with a dash.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::str::FromStr;

/// Columns of the help.
const WIDTH: usize = 100;

/// An option.
#[derive(Debug)]
pub struct Flag {
    /// One letter, if it has one.
    pub short: Option<char>,
    /// Without its dashes.
    pub long: &'static str,
    /// What its value is called; `None` for an option that is there or not.
    pub value: Option<&'static str>,
    pub help: &'static str,
}

/// An operand.
#[derive(Debug)]
pub struct Operand {
    /// As the usage shows it.
    pub name: &'static str,
    pub help: &'static str,
}

/// What a command takes.
#[derive(Debug)]
pub struct Syntax {
    /// As it is called: `edge-run plan`.
    pub name: &'static str,
    pub about: &'static str,
    pub operand: Operand,
    /// In the order of the help.
    pub flags: &'static [&'static [Flag]],
}

/// What is given.
#[derive(Debug, Default)]
pub struct Given {
    operand: Option<OsString>,
    flags: Vec<(&'static str, String)>,
}

static HELP: Flag = Flag { short: Some('h'), long: "help", value: None, help: "Print this help." };

impl Syntax {
    fn all(&self) -> impl Iterator<Item = &'static Flag> {
        self.flags.iter().flat_map(|group| group.iter()).chain(std::iter::once(&HELP))
    }

    /// Tells options and the operand apart; `Ok(None)` when help is asked for.
    ///
    /// # Errors
    /// An option that the command does not have, a value too many or missing, a second operand.
    pub fn parse(&self, mut args: impl Iterator<Item = OsString>) -> Result<Option<Given>, String> {
        let mut given = Given::default();
        let mut options = true;
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--") if options => options = false,
                Some(text) if options && text.starts_with("--") => {
                    let (name, value) = match text[2..].split_once('=') {
                        Some((name, value)) => (name, Some(value)),
                        None => (&text[2..], None),
                    };
                    let flag = self.all().find(|f| f.long == name);
                    let flag = flag.ok_or_else(|| self.refuse(&format!("there is no option `--{name}`")))?;
                    self.take(&mut given, flag, value, &mut args)?;
                }
                Some(text) if options && text.len() > 1 && text.starts_with('-') => {
                    self.letters(&mut given, &text[1..], &mut args)?;
                }
                _ if given.operand.is_some() => {
                    return Err(self.refuse(&format!("`{}` is one operand too many", arg.display())));
                }
                _ => given.operand = Some(arg),
            }
        }
        Ok((!given.has(HELP.long)).then_some(given))
    }

    /// Letters behind one dash: any number without a value, then at most one whose value is the rest.
    fn letters(
        &self,
        given: &mut Given,
        text: &str,
        args: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), String> {
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            let flag = self.all().find(|f| f.short == Some(letter));
            let flag = flag.ok_or_else(|| self.refuse(&format!("there is no option `-{letter}`")))?;
            if flag.value.is_some() {
                let value = (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest));
                return self.take(given, flag, value, args);
            }
            self.take(given, flag, None, args)?;
        }
        Ok(())
    }

    /// Notes an option with its value: the one written with it, or the next argument.
    fn take(
        &self,
        given: &mut Given,
        flag: &'static Flag,
        with_it: Option<&str>,
        args: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), String> {
        let value = match (flag.value, with_it) {
            (None, None) => String::new(),
            (None, Some(_)) => return Err(self.refuse(&format!("`--{}` takes no value", flag.long))),
            (Some(_), Some(value)) => value.to_string(),
            (Some(what), None) => {
                let next = args.next().filter(|next| !is_option(next));
                let next =
                    next.ok_or_else(|| self.refuse(&format!("`--{} <{what}>` lacks its value", flag.long)))?;
                next.into_string().map_err(|next| {
                    self.refuse(&format!("`--{} {}` is no Unicode text", flag.long, next.display()))
                })?
            }
        };
        given.flags.push((flag.long, value));
        Ok(())
    }

    fn refuse(&self, why: &str) -> String {
        format!("{why}; see {} --help", self.name)
    }

    /// The help: about, usage, operand, options.
    pub fn help(&self) -> String {
        let Operand { name, help } = &self.operand;
        let mut text = format!("{}\n\nUsage: {} [OPTIONS] {name}\n", self.about, self.name);
        let _ = write!(text, "\nArguments:\n{}\nOptions:\n", row(name, help, name.len() + 2));
        let rows: Vec<(String, &str)> = self.all().map(|flag| (flag.usage(), flag.help)).collect();
        let column = rows.iter().map(|(usage, _)| usage.len()).max().unwrap_or(0) + 2;
        rows.iter().for_each(|(usage, help)| text += &row(usage, help, column));
        text
    }
}

/// Whether an argument is an option rather than the value of one: a dash alone and a negative number are values.
fn is_option(arg: &OsStr) -> bool {
    let mut bytes = arg.as_encoded_bytes().iter();
    bytes.next() == Some(&b'-') && bytes.next().is_some_and(|second| !second.is_ascii_digit())
}

/// A name and what it means, wrapped and aligned.
pub fn row(name: &str, help: &str, column: usize) -> String {
    let mut text = format!("  {name:<column$}");
    let mut at = 2 + column;
    for word in help.split(' ') {
        if at + word.len() > WIDTH {
            let _ = write!(text, "\n{:indent$}", "", indent = 2 + column);
            at = 2 + column;
        }
        let _ = write!(text, "{word} ");
        at += word.len() + 1;
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

impl Flag {
    fn usage(&self) -> String {
        let short = self.short.map_or("    ".to_string(), |letter| format!("-{letter}, "));
        let value = self.value.map(|value| format!(" <{value}>")).unwrap_or_default();
        format!("{short}--{}{value}", self.long)
    }
}

impl Given {
    /// The operand, once.
    pub fn operand(&mut self) -> Option<OsString> {
        self.operand.take()
    }

    /// Whether an option is there.
    pub fn has(&self, long: &str) -> bool {
        self.count(long) > 0
    }

    /// How often an option is there.
    pub fn count(&self, long: &str) -> u8 {
        self.flags.iter().filter(|(name, _)| *name == long).count().try_into().unwrap_or(u8::MAX)
    }

    /// Every value of an option.
    pub fn all(&self, long: &str) -> Vec<String> {
        self.flags.iter().filter(|(name, _)| *name == long).map(|(_, value)| value.clone()).collect()
    }

    /// The value of an option that may be given once.
    ///
    /// # Errors
    /// When it is given twice, or is no `T`.
    pub fn one<T: FromStr<Err: std::fmt::Display>>(&self, long: &str) -> Result<Option<T>, String> {
        let mut values = self.flags.iter().filter(|(name, _)| *name == long);
        let Some((_, value)) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(format!("`--{long}` is given twice"));
        }
        value.parse().map(Some).map_err(|e| format!("--{long} {value}: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Flag, Given, Operand, Syntax};

    const SYNTAX: Syntax = Syntax {
        name: "tool",
        about: "Does nothing.",
        operand: Operand { name: "<FILE>", help: "The file." },
        flags: &[
            &[Flag { short: Some('n'), long: "number", value: Some("N"), help: "A number." }],
            &[Flag { short: Some('v'), long: "verbose", value: None, help: "Say more." }],
        ],
    };

    fn parse(args: &str) -> Result<Option<Given>, String> {
        SYNTAX.parse(args.split_whitespace().map(Into::into))
    }

    #[test]
    fn every_way_to_write_an_option_is_the_same() {
        for args in
            ["f --number 3 -vv", "-n3 f -v --verbose", "-vvn 3 -- f", "--number=3 -v f -v", "-vn=3 f -v"]
        {
            let mut given = parse(args).unwrap().unwrap();
            assert_eq!(given.one::<u32>("number").unwrap(), Some(3), "{args}");
            assert_eq!((given.count("verbose"), given.operand()), (2, Some("f".into())), "{args}");
        }
        let mut dash = parse("-- -v").unwrap().unwrap();
        assert_eq!((dash.has("verbose"), dash.operand()), (false, Some("-v".into())));
        assert_eq!(parse("-n -3").unwrap().unwrap().one::<i32>("number").unwrap(), Some(-3));
        assert!(parse("f -h").unwrap().is_none() && parse("--help").unwrap().is_none());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (args, what) in [
            ("f g", "`g` is one operand too many"),
            ("--none", "no option `--none`; see tool --help"),
            ("-x", "no option `-x`"),
            ("--verbose=1", "`--verbose` takes no value"),
            ("--number", "`--number <N>` lacks its value"),
            ("-n --verbose", "`--number <N>` lacks its value"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(what), "{args}: {error}");
        }
        let twice = parse("-n1 -n2").unwrap().unwrap();
        assert_eq!(twice.one::<u32>("number").unwrap_err(), "`--number` is given twice");
        let none = parse("-n x").unwrap().unwrap();
        assert_eq!(none.one::<u32>("number").unwrap_err(), "--number x: invalid digit found in string");
    }

    #[test]
    fn help_lists_every_option_within_its_width() {
        let help = SYNTAX.help();
        for part in ["Usage: tool [OPTIONS] <FILE>", "-n, --number <N>", "-v, --verbose", "-h, --help"] {
            assert!(help.contains(part), "{help}");
        }
        let long = super::row("--x", &"word ".repeat(60), 10);
        assert!(long.lines().count() > 2 && long.lines().all(|l| l.len() <= super::WIDTH), "{long}");
    }
}
