//! `supernet.toml`: which parts of a model are elastic. `converter/SUPERNET.md` says what every table means.

use super::ImportError;
use edge_runtime::graph;
use edge_runtime::pack::Choice;
use serde::Deserialize;
use std::path::Path;

/// The elastic parts of a model. The model itself is the largest network: every choice at its last option.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// What can be chosen.
    #[serde(default, rename = "choice")]
    pub choices: Vec<Choices>,
    /// Blocks that some options leave out.
    #[serde(default, rename = "skip")]
    pub skips: Vec<Skip>,
    /// Channels that are cut to the first ones.
    #[serde(default, rename = "cut")]
    pub cuts: Vec<Cut>,
    /// Windows that shrink to their middle.
    #[serde(default, rename = "kernel")]
    pub kernels: Vec<Kernel>,
    /// Pictures that are made smaller inside the network.
    #[serde(default, rename = "resolution")]
    pub resolutions: Vec<Resolution>,
    /// Stored arrays that are others by option.
    #[serde(default, rename = "constant")]
    pub constants: Vec<Constant>,
    /// Stored arrays in whose place others stand.
    #[serde(default, rename = "swap")]
    pub swaps: Vec<Swap>,
    /// Stored arrays that a router mixes of several.
    #[serde(default, rename = "mixture")]
    pub mixtures: Vec<Mixture>,
    /// Blocks that run several times.
    #[serde(default, rename = "repeat")]
    pub repeats: Vec<Repeat>,
}

/// One thing that can be chosen.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choices {
    /// Unique name.
    pub name: String,
    /// Its options, smallest first.
    pub options: Vec<Word>,
}

/// An option's name: a number or a word.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Word {
    /// `3`
    Integer(i64),
    /// `0.5`
    Number(f64),
    /// `"wide"`
    Text(String),
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Word::Integer(n) => n.fmt(f),
            Word::Number(n) => n.fmt(f),
            Word::Text(text) => text.fmt(f),
        }
    }
}

/// A block that some options leave out.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skip {
    /// The choice.
    pub choice: String,
    /// The options that leave it out.
    pub options: Vec<Word>,
    /// The value that enters the block.
    pub from: String,
    /// The value that leaves it.
    pub to: String,
}

/// Axes that are cut to their first elements.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The choice.
    pub choice: String,
    /// Elements that are kept, one an option.
    pub sizes: Vec<usize>,
    /// Stored arrays and their axes, `NAME:AXIS`; `*` stands for any text.
    pub of: Vec<String>,
    /// The axis is so many equal parts, each of which is cut.
    #[serde(default = "one")]
    pub parts: usize,
}

fn one() -> usize {
    1
}

/// A convolution's window that shrinks to its middle.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// The choice.
    pub choice: String,
    /// Sides of the window, one an option.
    pub sizes: Vec<usize>,
    /// The convolution's weight.
    pub weight: String,
    /// Stored matrices, one from each window to the next smaller one, from the largest on: `y = M x`, `x` being the flattened middle.
    #[serde(default)]
    pub transforms: Vec<String>,
}

/// A picture that is made smaller.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// The choice.
    pub choice: String,
    /// The input; its last two dimensions are height and width.
    pub input: String,
    /// Height and width, one an option; the last is the input's own.
    pub sizes: Vec<usize>,
}

/// A stored array that is another by option.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {
    /// The choice.
    pub choice: String,
    /// The array's name.
    pub tensor: String,
    /// Its elements, one list an option.
    pub values: Vec<Vec<f64>>,
}

/// Stored arrays in whose place others of the file stand, by option: networks that were trained apart, of one form.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    /// The choice.
    pub choice: String,
    /// Names of the arrays; `*` stands for any text.
    pub of: Vec<String>,
    /// What comes before an array's name in that of the one which stands in its place, one an option; nothing leaves all as they are.
    pub prefixes: Vec<String>,
}

/// Stored arrays that are weighted sums of several, the weights being what a router makes of the choices: mixture-of-supernets.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixture {
    /// Stored arrays and the axes of their outputs, `NAME:AXIS`; `*` stands for any text.
    pub of: Vec<String>,
    /// What comes before an array's name in that of each expert; nothing is the array itself.
    pub experts: Vec<String>,
    /// What the router is given.
    pub features: Vec<Feature>,
    /// Its layers, the first one first; a softmax over experts follows.
    pub layers: Vec<Layer>,
}

/// A number that says something of a choice: the mean of what the options of some choices stand for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// The choices.
    pub of: Vec<String>,
    /// By choice, what its options stand for.
    pub values: Vec<Vec<f32>>,
    /// A choice that says how many of these count, the first ones.
    pub first: Option<String>,
    /// How many, one an option of `first`.
    #[serde(default)]
    pub counts: Vec<u32>,
}

/// A layer of a router.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// A stored array `[outputs, inputs]`.
    pub weight: String,
    /// A stored array, an element an output.
    pub bias: Option<String>,
    /// Whether what is below 0 becomes 0.
    #[serde(default)]
    pub relu: bool,
}

/// A block that runs several times.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// The choice.
    pub choice: String,
    /// The value that enters the block.
    pub from: String,
    /// The value that leaves it.
    pub to: String,
    /// How often it runs, one an option.
    pub times: Vec<usize>,
}

impl Description {
    /// Reads a description.
    ///
    /// # Errors
    /// When the file cannot be read, or says something that cannot be meant.
    pub fn read(path: &Path) -> Result<Description, ImportError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
        Description::parse(&text)
            .map_err(|why| ImportError::Elastic { file: path.display().to_string(), why })
    }

    /// Parses a description.
    ///
    /// # Errors
    /// Says what cannot be meant.
    pub fn parse(text: &str) -> Result<Description, String> {
        let description: Description = toml::from_str(text).map_err(|e| e.to_string())?;
        description.check()?;
        Ok(description)
    }

    fn check(&self) -> Result<(), String> {
        if self.choices.is_empty() {
            return Err("no [[choice]]: nothing is elastic".into());
        }
        for (i, choice) in self.choices.iter().enumerate() {
            let name = &choice.name;
            match choice.options.len() {
                0 => return Err(format!("choice `{name}` has no options")),
                n if n > Choice::OPTIONS => {
                    return Err(format!(
                        "choice `{name}` has {n} options, at most {} are possible",
                        Choice::OPTIONS
                    ));
                }
                _ => {}
            }
            for (j, option) in choice.options.iter().enumerate() {
                if choice.options[..j].contains(option) {
                    return Err(format!("choice `{name}` has option `{option}` twice"));
                }
            }
            if self.choices[..i].iter().any(|other| other.name == *name) {
                return Err(format!("two choices are called `{name}`"));
            }
        }
        let lists = self.cuts.iter().map(|c| (&c.choice, c.sizes.len(), "cut"));
        let lists = lists.chain(self.kernels.iter().map(|k| (&k.choice, k.sizes.len(), "kernel")));
        let lists = lists.chain(self.resolutions.iter().map(|r| (&r.choice, r.sizes.len(), "resolution")));
        let lists = lists.chain(self.constants.iter().map(|c| (&c.choice, c.values.len(), "constant")));
        let lists = lists.chain(self.swaps.iter().map(|s| (&s.choice, s.prefixes.len(), "swap")));
        let lists = lists.chain(self.repeats.iter().map(|r| (&r.choice, r.times.len(), "repeat")));
        for (choice, entries, table) in lists {
            let options = self.choices[self.choice(choice, table)?].options.len();
            if entries != options {
                return Err(format!(
                    "a [[{table}]] of choice `{choice}` has {entries} entries, the choice has {options} options"
                ));
            }
        }
        self.mixtures.iter().try_for_each(|mixture| self.check_mixture(mixture))?;
        if let Some(swap) = self.swaps.iter().find(|s| s.prefixes.last().is_some_and(|last| !last.is_empty()))
        {
            return Err(format!(
                "a [[swap]] of choice `{}` has prefix `{}` for the last option, the network as it is: leave it empty",
                swap.choice,
                swap.prefixes.last().map_or("", String::as_str)
            ));
        }
        let zero = |sizes: &[usize]| sizes.contains(&0);
        if let Some(cut) = self.cuts.iter().find(|c| zero(&c.sizes)) {
            return Err(format!("a [[cut]] of choice `{}` keeps nothing: sizes {:?}", cut.choice, cut.sizes));
        }
        if let Some(repeat) = self.repeats.iter().find(|r| zero(&r.times)) {
            let choice = &repeat.choice;
            return Err(format!(
                "a [[repeat]] of choice `{choice}` runs 0 times: leave it out with [[skip]]"
            ));
        }
        for kernel in &self.kernels {
            let ascending = kernel.sizes.windows(2).all(|pair| pair[0] < pair[1]);
            let odd = kernel.sizes.iter().all(|size| size % 2 == 1);
            if !ascending || !odd {
                let why = "they must be odd and ascend";
                return Err(format!(
                    "a [[kernel]] of choice `{}` has sizes {:?}; {why}",
                    kernel.choice, kernel.sizes
                ));
            }
            let steps = kernel.sizes.len() - 1;
            if !kernel.transforms.is_empty() && kernel.transforms.len() != steps {
                return Err(format!(
                    "a [[kernel]] of choice `{}` has {} transforms for {steps} steps between its sizes",
                    kernel.choice,
                    kernel.transforms.len()
                ));
            }
        }
        for skip in &self.skips {
            let choice = &self.choices[self.choice(&skip.choice, "skip")?];
            if let Some(option) = skip.options.iter().find(|o| !choice.options.contains(o)) {
                return Err(format!(
                    "a [[skip]] of choice `{}` names option `{option}`, which it has not",
                    choice.name
                ));
            }
            if choice.options.last().is_some_and(|last| skip.options.contains(last)) {
                return Err(format!(
                    "a [[skip]] of choice `{}` leaves a block out at the last option, the largest network's",
                    choice.name
                ));
            }
        }
        Ok(())
    }

    fn check_mixture(&self, mixture: &Mixture) -> Result<(), String> {
        if mixture.of.is_empty() || mixture.experts.len() < 2 || mixture.layers.is_empty() {
            return Err("a [[mixture]] needs arrays (`of`), two `experts` and a layer".into());
        }
        if mixture.experts.first().is_some_and(|first| !first.is_empty()) {
            return Err(format!(
                "a [[mixture]] has `{}` for its first expert, the array itself: leave it empty",
                mixture.experts[0]
            ));
        }
        let entries = |choice: &String, entries: usize| {
            let options = self.choices[self.choice(choice, "mixture")?].options.len();
            let why = format!(
                "a feature of a [[mixture]] has {entries} values for choice `{choice}` of {options} options"
            );
            (entries == options).then_some(()).ok_or(why)
        };
        for Feature { of, values, first, counts } in &mixture.features {
            if of.is_empty() || of.len() != values.len() {
                let (choices, lists) = (of.len(), values.len());
                return Err(format!(
                    "a feature of a [[mixture]] has {lists} lists of values for {choices} choices"
                ));
            }
            of.iter().zip(values).try_for_each(|(choice, values)| entries(choice, values.len()))?;
            if let Some(first) = first {
                entries(first, counts.len())?;
            }
        }
        Ok(())
    }

    /// A feature in terms of the indices of choices.
    pub fn feature(&self, feature: &Feature) -> graph::Feature {
        // Names were checked when the description was read.
        let index = |name: &String| self.choices.iter().position(|c| c.name == *name).unwrap_or(0) as u32;
        let count = |first: &String| graph::Count { variable: index(first), counts: feature.counts.clone() };
        graph::Feature {
            of: feature.of.iter().map(index).collect(),
            values: feature.values.clone(),
            first: feature.first.as_ref().map(count),
        }
    }

    /// The index of a choice.
    fn choice(&self, name: &str, table: &str) -> Result<usize, String> {
        let found = self.choices.iter().position(|choice| choice.name == name);
        found.ok_or_else(|| {
            let have: Vec<&str> = self.choices.iter().map(|c| c.name.as_str()).collect();
            format!("a [[{table}]] names choice `{name}`; the choices are {}", have.join(", "))
        })
    }

    /// The option of a choice in a subnet.
    pub(super) fn option(&self, choice: &[usize], name: &str) -> usize {
        // Names were checked when the description was read.
        self.choices.iter().position(|c| c.name == name).map_or(0, |i| choice[i])
    }

    /// The last option of every choice.
    pub fn largest(&self) -> Vec<usize> {
        self.choices.iter().map(|choice| choice.options.len() - 1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Description;

    const CHOICE: &str = "[[choice]]\nname = \"d\"\noptions = [1, 2]\n";

    fn refused(text: &str) -> String {
        Description::parse(text).unwrap_err()
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        assert!(Description::parse(CHOICE).is_ok());
        assert!(refused("").contains("nothing is elastic"));
        assert!(refused("[[choice]]\nname = \"d\"\noptions = []\n").contains("`d` has no options"));
        assert!(refused(&CHOICE.repeat(2)).contains("two choices are called `d`"));
        assert!(refused("[[choice]]\nname = \"d\"\noptions = [1, 1]\n").contains("option `1` twice"));
        let with = |table: &str| refused(&format!("{CHOICE}{table}"));
        assert!(with("[[cut]]\nchoice = \"e\"\nsizes = [1, 2]\nof = []\n").contains("the choices are d"));
        let three = with("[[cut]]\nchoice = \"d\"\nsizes = [1, 2, 3]\nof = []\n");
        assert!(three.contains("3 entries") && three.contains("2 options"), "{three}");
        assert!(with("[[cut]]\nchoice = \"d\"\nsizes = [0, 2]\nof = []\n").contains("keeps nothing"));
        assert!(with("[[kernel]]\nchoice = \"d\"\nsizes = [5, 3]\nweight = \"w\"\n").contains("ascend"));
        assert!(with("[[kernel]]\nchoice = \"d\"\nsizes = [2, 4]\nweight = \"w\"\n").contains("odd"));
        let many =
            "[[kernel]]\nchoice = \"d\"\nsizes = [3, 5]\nweight = \"w\"\ntransforms = [\"a\", \"b\"]\n";
        assert!(with(many).contains("2 transforms for 1 steps"));
        let skip = |options: &str| {
            with(&format!("[[skip]]\nchoice = \"d\"\noptions = {options}\nfrom = \"a\"\nto = \"b\"\n"))
        };
        assert!(skip("[7]").contains("option `7`"));
        assert!(skip("[2]").contains("largest"));
        assert!(
            with("[[repeat]]\nchoice = \"d\"\nfrom = \"a\"\nto = \"b\"\ntimes = [0, 2]\n")
                .contains("0 times")
        );
        assert!(with("[[sizes]]\n").contains("sizes"));
    }
}
