//! From what somebody writes to a choice: `resolution=20,stage2.depth=2`.

use crate::graph::Elastic;
use crate::pack::{Choice, Header, Rung};

/// No subnet is meant by a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum ChoiceError {
    #[error("the pack has nothing to choose: its network has no subnets; leave the choices out")]
    NoChoices,
    #[error(
        "rung `{rung}` runs another network, which has no such choices; the rungs that have them: {have}"
    )]
    OtherNetwork { rung: String, have: String },
    #[error("`{part}` is no choice; write NAME=OPTION, several with commas between them. There are {have}")]
    Form { part: String, have: String },
    #[error("there is no choice `{name}`; there are {have}")]
    NoSuchChoice { name: String, have: String },
    #[error("`{name}` is one of {have}, not `{option}`")]
    NoSuchOption { name: String, option: String, have: String },
    #[error("`{name}` is chosen twice: `{first}`, and `{second}`")]
    Twice { name: String, first: String, second: String },
}

/// The elastic graph that choices are of: a rung's, or the first that there is.
///
/// # Errors
/// When there is none, or the rung's is not elastic.
pub fn elastic_graph(header: &Header, rung: Option<&Rung>) -> Result<u32, ChoiceError> {
    let elastic = |graph: usize| header.graphs[graph].elastic.is_some();
    let first = (0..header.graphs.len()).find(|graph| elastic(*graph)).ok_or(ChoiceError::NoChoices)?;
    match rung {
        Some(rung) if !elastic(rung.graph as usize) => {
            let have = header.rungs.iter().filter(|rung| elastic(rung.graph as usize));
            Err(ChoiceError::OtherNetwork {
                rung: rung.id.clone(),
                have: listed(have.map(|rung| rung.id.as_str())),
            })
        }
        Some(rung) => Ok(rung.graph),
        None => Ok(first as u32),
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl Elastic {
    /// The choice that a text names: `NAME=OPTION`, commas between several. What it does not name has its last option, the
    /// largest network's; an empty text is the largest network.
    ///
    /// # Errors
    /// With what there is to choose: when a name or an option is unknown, or a name is there twice.
    pub fn choose(&self, text: &str) -> Result<Choice, ChoiceError> {
        let names = || listed(self.variables.iter().map(|variable| variable.name.as_str()));
        let mut chosen: Vec<Option<usize>> = vec![None; self.variables.len()];
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((name, option)) = part.split_once('=').map(|(n, o)| (n.trim(), o.trim())) else {
                return Err(ChoiceError::Form { part: part.into(), have: names() });
            };
            let Some(at) = self.variables.iter().position(|variable| variable.name == name) else {
                return Err(ChoiceError::NoSuchChoice { name: name.into(), have: names() });
            };
            let options = &self.variables[at].options;
            let Some(index) = options.iter().position(|known| known == option) else {
                let have = listed(options.iter().map(String::as_str));
                return Err(ChoiceError::NoSuchOption { name: name.into(), option: option.into(), have });
            };
            if let Some(first) = chosen[at].replace(index) {
                let first = options[first].clone();
                return Err(ChoiceError::Twice { name: name.into(), first, second: option.into() });
            }
        }
        let last = |(option, variable): (Option<usize>, &crate::graph::Variable)| {
            option.unwrap_or(variable.options.len().saturating_sub(1))
        };
        let options: Vec<usize> = chosen.into_iter().zip(&self.variables).map(last).collect();
        // Packs have no more options than a choice can say.
        Ok(Choice::new(&options).unwrap_or_default())
    }

    /// Names and options of a choice, in order.
    ///
    /// # Panics
    /// When it is one of other variables.
    pub fn named<'a>(&'a self, choice: &'a Choice) -> impl Iterator<Item = (&'a str, &'a str)> {
        let named = self.variables.iter().zip(choice.options());
        named.map(|(variable, option)| (variable.name.as_str(), variable.options[option].as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::ChoiceError;
    use crate::graph::{Elastic, Variable};

    #[test]
    fn choices_are_named_and_others_are_the_largest() {
        let variable = |name: &str, options: &[&str]| Variable {
            name: name.into(),
            options: options.iter().map(ToString::to_string).collect(),
        };
        let elastic = Elastic {
            variables: vec![variable("size", &["20", "24"]), variable("depth", &["1", "2", "3"])],
            ..Elastic::default()
        };
        let digits = |text: &str| elastic.choose(text).map(String::from);
        for (text, want) in [("", "12"), ("depth=1", "10"), (" depth = 2 ,size=20,", "01")] {
            assert_eq!(digits(text), Ok(want.into()), "{text}");
        }
        let choice = elastic.choose("size=20").unwrap();
        assert_eq!(elastic.named(&choice).collect::<Vec<_>>(), [("size", "20"), ("depth", "3")]);
        assert!(matches!(digits("depth"), Err(ChoiceError::Form { .. })));
        assert!(matches!(digits("width=1"), Err(ChoiceError::NoSuchChoice { .. })));
        assert!(matches!(digits("depth=4"), Err(ChoiceError::NoSuchOption { .. })));
        assert!(matches!(digits("depth=1,depth=1"), Err(ChoiceError::Twice { .. })));
    }
}
