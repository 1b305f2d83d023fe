//! Rules that say who belongs to a group, in the language of Entra ID's dynamic groups: `user.department -eq "Sales"`,
//! `(device.deviceOSType -eq "Windows") -and -not (device.displayName -startsWith "LAB-")`,
//! `device.devicePhysicalIds -any (_ -match "^\\[OrderID\\]:")`. Texts compare whatever their case. What an
//! object has not is `null`: it equals nothing else, begins with nothing and holds nothing.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// Longest rule, in letters: as Entra ID has it.
pub const LONGEST: usize = 3072;
/// How deep parentheses and `-not` go.
const DEEPEST: usize = 24;
/// How many comparisons and values of lists a rule has.
const MOST: usize = 200;
/// How many patterns a rule has, and how large one may become.
const MOST_PATTERNS: usize = 10;
const LARGEST_PATTERN: usize = 1024 * 1024;

words! {
    /// What a rule speaks of.
    Subject {
        /// People.
        User = "user",
        /// Devices.
        Device = "device",
    }
}

/// What people have that a rule may ask for.
pub const OF_USERS: &[&str] = &[
    "accountEnabled",
    "department",
    "displayName",
    "employeeId",
    "givenName",
    "jobTitle",
    "mail",
    "mobile",
    "objectId",
    "onPremisesSecurityIdentifier",
    "physicalDeliveryOfficeName",
    "preferredLanguage",
    "surname",
    "usageLocation",
    "userPrincipalName",
];

/// What devices have that a rule may ask for.
pub const OF_DEVICES: &[&str] =
    &["deviceId", "deviceManufacturer", "deviceModel", "deviceOSType", "deviceOSVersion", "displayName", "objectId"];

/// What devices have several of: a rule asks of one or all of them (`-any`, `-all`).
pub const LISTS_OF_DEVICES: &[&str] = &["devicePhysicalIds"];
/// One of several, in what is asked of them.
const ITEM: &str = "_";

/// The only property that is true or false.
const SWITCH: &str = "accountEnabled";

/// A value that a property is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// True or false.
    Bool(bool),
    /// Nothing.
    Null,
}

/// A regular expression. It is looked for in time that grows with the text alone, whatever it says: nothing in it looks back or around.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let built = RegexBuilder::new(text).case_insensitive(true).size_limit(LARGEST_PATTERN).dfa_size_limit(LARGEST_PATTERN).build();
        built.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "the pattern is too large".into(),
            _ => "the pattern is none: letters, classes, groups and repetitions, but nothing that looks back or around".into(),
        })
    }

    fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// What a rule asks of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// All of these.
    All(Vec<Self>),
    /// One of these.
    Any(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// The property is this.
    Is(&'static str, Value),
    /// The property begins with this.
    Begins(&'static str, String),
    /// The property ends with this.
    Ends(&'static str, String),
    /// The property holds this.
    Holds(&'static str, String),
    /// The pattern is in the property.
    Matches(&'static str, Pattern),
    /// This is true of one of several; they have no name.
    AnyOf(&'static str, Box<Self>),
    /// This is true of all of several.
    AllOf(&'static str, Box<Self>),
}

impl Test {
    /// Whether it is true of an object whose properties `of` gives: the model of what the database works out for all objects at once.
    pub fn is_true(&self, of: &dyn Fn(&str) -> Value) -> bool {
        let text = |name: &str| match of(name) {
            Value::Text(text) => Some(text.to_lowercase()),
            _ => None,
        };
        match self {
            Self::All(tests) => tests.iter().all(|test| test.is_true(of)),
            Self::Any(tests) => tests.iter().any(|test| test.is_true(of)),
            Self::Not(test) => !test.is_true(of),
            Self::Is(name, Value::Text(wanted)) => text(name).is_some_and(|text| text == wanted.to_lowercase()),
            Self::Is(name, wanted) => of(name) == *wanted,
            Self::Begins(name, start) => text(name).is_some_and(|text| text.starts_with(&start.to_lowercase())),
            Self::Ends(name, end) => text(name).is_some_and(|text| text.ends_with(&end.to_lowercase())),
            Self::Holds(name, part) => text(name).is_some_and(|text| text.contains(&part.to_lowercase())),
            Self::Matches(name, pattern) => matches!(of(name), Value::Text(text) if pattern.is_in(&text)),
            Self::AnyOf(name, test) => texts(of(name)).into_iter().any(|item| test.is_true(&|_| Value::Text(item.clone()))),
            Self::AllOf(name, test) => texts(of(name)).into_iter().all(|item| test.is_true(&|_| Value::Text(item.clone()))),
        }
    }

    /// Whether a pattern is in it: databases have no such thing, or another one each.
    #[must_use]
    pub fn has_pattern(&self) -> bool {
        match self {
            Self::All(tests) | Self::Any(tests) => tests.iter().any(Self::has_pattern),
            Self::Not(test) | Self::AnyOf(_, test) | Self::AllOf(_, test) => test.has_pattern(),
            Self::Matches(..) => true,
            Self::Is(..) | Self::Begins(..) | Self::Ends(..) | Self::Holds(..) => false,
        }
    }
}

fn texts(value: Value) -> Vec<String> {
    match value {
        Value::Texts(all) => all,
        _ => Vec::new(),
    }
}

/// A rule that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it speaks of.
    pub subject: Subject,
    /// What it asks.
    pub test: Test,
}

/// Why a rule is not taken, and where: the letter, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The letter at which it was seen.
    pub at: usize,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at letter {}: {}", self.at, self.why)
    }
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// Where and why it is no rule.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        if text.chars().count() > LONGEST {
            return Err(Wrong { at: LONGEST, why: format!("a rule has at most {LONGEST} letters") });
        }
        let mut reader =
            Reader { tokens: tokens(text)?, next: 0, end: text.chars().count() + 1, subject: None, count: 0, patterns: 0, inside: false };
        let test = reader.any(0)?;
        match (reader.peek(), reader.subject) {
            (Some(token), _) => Err(reader.wrong(format!("{} is not expected here; use -and or -or", token.shown()))),
            (None, Some(subject)) => Ok(Self { subject, test }),
            (None, None) => Err(reader.wrong("the rule asks for nothing")),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Open,
    Close,
    Begin,
    End,
    Comma,
    Text(String),
    /// A name, a word, or an operator without its hyphen.
    Word(String),
}

impl Token {
    fn shown(&self) -> String {
        match self {
            Self::Open => "'('".into(),
            Self::Close => "')'".into(),
            Self::Begin => "'['".into(),
            Self::End => "']'".into(),
            Self::Comma => "','".into(),
            Self::Text(_) => "a text".into(),
            Self::Word(word) => format!("'{}'", word.chars().take(40).collect::<String>()),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Wrong> {
    let mut letters = (1..).zip(text.chars()).peekable();
    let mut found = Vec::new();
    while let Some((at, letter)) = letters.next() {
        let token = match letter {
            ' ' | '\t' | '\r' | '\n' => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            '[' => Token::Begin,
            ']' => Token::End,
            ',' => Token::Comma,
            '"' | '\'' => {
                let mut value = String::new();
                loop {
                    match letters.next() {
                        None => return Err(Wrong { at, why: "the text has no end".into() }),
                        Some((_, end)) if end == letter => break,
                        // The next letter as it is.
                        Some((_, '`')) => value.extend(letters.next().map(|(_, escaped)| escaped)),
                        Some((at, '\0')) => return Err(Wrong { at, why: "a text has no such letter".into() }),
                        Some((_, other)) => value.push(other),
                    }
                }
                Token::Text(value)
            }
            '-' | '_' | 'a'..='z' | 'A'..='Z' | '0'..='9' => {
                let mut word = if letter == '-' { String::new() } else { String::from(letter) };
                while let Some((_, part)) = letters.next_if(|(_, part)| part.is_ascii_alphanumeric() || matches!(part, '.' | '_')) {
                    word.push(part);
                }
                Token::Word(word)
            }
            other => return Err(Wrong { at, why: format!("{other:?} is not expected here; texts stand in quotes") }),
        };
        found.push((at, token));
    }
    Ok(found)
}

struct Reader {
    tokens: Vec<(usize, Token)>,
    next: usize,
    end: usize,
    subject: Option<Subject>,
    count: usize,
    patterns: usize,
    /// Whether what is asked of one of several is being read.
    inside: bool,
}

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    /// Something is wrong with the next token.
    fn wrong(&self, why: impl Into<String>) -> Wrong {
        Wrong { at: self.tokens.get(self.next).map_or(self.end, |(at, _)| *at), why: why.into() }
    }

    fn take(&mut self, expected: &Token) -> bool {
        let taken = self.peek() == Some(expected);
        self.next += usize::from(taken);
        taken
    }

    fn take_word(&mut self, expected: &str) -> bool {
        let taken = matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(expected));
        self.next += usize::from(taken);
        taken
    }

    fn any(&mut self, depth: usize) -> Result<Test, Wrong> {
        let mut tests = vec![self.all(depth)?];
        while self.take_word("or") {
            tests.push(self.all(depth)?);
        }
        Ok(one_or(tests, Test::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Test, Wrong> {
        let mut tests = vec![self.one(depth)?];
        while self.take_word("and") {
            tests.push(self.one(depth)?);
        }
        Ok(one_or(tests, Test::All))
    }

    fn one(&mut self, depth: usize) -> Result<Test, Wrong> {
        if depth > DEEPEST {
            return Err(self.wrong(format!("parentheses go at most {DEEPEST} deep")));
        }
        if self.take_word("not") {
            return Ok(Test::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take(&Token::Open) {
            let test = self.any(depth + 1)?;
            return if self.take(&Token::Close) { Ok(test) } else { Err(self.wrong("a ')' is missing")) };
        }
        self.comparison(depth)
    }

    fn comparison(&mut self, depth: usize) -> Result<Test, Wrong> {
        let name = self.property()?;
        let Some(Token::Word(word)) = self.peek().cloned() else {
            return Err(self.wrong("an operator is missing, such as -eq"));
        };
        let several = LISTS_OF_DEVICES.contains(&name);
        let known: &[&'static str] = if several { &["any", "all"] } else { &OPERATORS };
        let Some(operator) = known.iter().find(|known| known.eq_ignore_ascii_case(&word)) else {
            return Err(self.wrong(format!("'{}' is no operator here; there are -{}", word, known.join(", -"))));
        };
        self.next += 1;
        let test = match *operator {
            "any" | "all" => return self.several(name, *operator == "all", depth),
            "eq" | "ne" => Test::Is(name, self.value(name)?),
            "in" | "notIn" => self.list(name)?,
            _ => {
                if name == SWITCH {
                    return Err(self.wrong(format!("{name} is compared by -eq or -ne")));
                }
                let Value::Text(text) = self.value(name)? else {
                    self.next -= 1;
                    return Err(self.wrong(format!("-{operator} takes a text")));
                };
                match operator.to_ascii_lowercase().trim_start_matches("not") {
                    "startswith" => Test::Begins(name, text),
                    "endswith" => Test::Ends(name, text),
                    "match" => self.pattern(name, &text)?,
                    _ => Test::Holds(name, text),
                }
            }
        };
        Ok(if operator.starts_with('n') { Test::Not(Box::new(test)) } else { test })
    }

    /// What is asked of one or all of several.
    fn several(&mut self, name: &'static str, all: bool, depth: usize) -> Result<Test, Wrong> {
        if !self.take(&Token::Open) {
            return Err(self.wrong("what is asked of each is missing, such as (_ -startsWith \"a\")"));
        }
        self.inside = true;
        let test = Box::new(self.any(depth + 1)?);
        self.inside = false;
        if !self.take(&Token::Close) {
            return Err(self.wrong("a ')' is missing"));
        }
        Ok(if all { Test::AllOf(name, test) } else { Test::AnyOf(name, test) })
    }

    fn pattern(&mut self, name: &'static str, text: &str) -> Result<Test, Wrong> {
        self.patterns += 1;
        let read =
            if self.patterns > MOST_PATTERNS { Err(format!("a rule has at most {MOST_PATTERNS} patterns")) } else { Pattern::parse(text) };
        read.map(|pattern| Test::Matches(name, pattern)).map_err(|why| {
            self.next -= 1;
            self.wrong(why)
        })
    }

    fn property(&mut self) -> Result<&'static str, Wrong> {
        let Some(Token::Word(word)) = self.peek().cloned() else {
            return Err(self.wrong("a property is missing, such as user.department"));
        };
        if self.inside != (word == ITEM) {
            return Err(self.wrong(if self.inside { "inside -any and -all, _ stands for each" } else { "_ stands inside -any and -all" }));
        }
        if self.inside {
            self.next += 1;
            return Ok("");
        }
        let (subject, name) = word.split_once('.').unwrap_or_default();
        let Some(subject) = Subject::parse(&subject.to_ascii_lowercase()) else {
            return Err(self.wrong("a property begins with user. or device."));
        };
        if self.subject.is_some_and(|other| other != subject) {
            return Err(self.wrong("a rule speaks of users or of devices, not of both"));
        }
        let known = match subject {
            Subject::User => [OF_USERS, &[]],
            Subject::Device => [OF_DEVICES, LISTS_OF_DEVICES],
        }
        .concat();
        let Some(found) = known.iter().copied().find(|known| known.eq_ignore_ascii_case(name)) else {
            return Err(self.wrong(format!("there is no such property; there are {subject}.{}", known.join(", "))));
        };
        self.subject = Some(subject);
        self.next += 1;
        Ok(found)
    }

    fn list(&mut self, name: &'static str) -> Result<Test, Wrong> {
        if !self.take(&Token::Begin) {
            return Err(self.wrong("a list is missing, such as [\"a\", \"b\"]"));
        }
        let mut tests = vec![Test::Is(name, self.value(name)?)];
        while self.take(&Token::Comma) {
            tests.push(Test::Is(name, self.value(name)?));
        }
        if self.take(&Token::End) { Ok(one_or(tests, Test::Any)) } else { Err(self.wrong("a ']' is missing")) }
    }

    fn value(&mut self, name: &str) -> Result<Value, Wrong> {
        self.count += 1;
        if self.count > MOST {
            return Err(self.wrong(format!("a rule has at most {MOST} values")));
        }
        let value = match self.peek() {
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("null") => Value::Null,
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("true") && name == SWITCH => Value::Bool(true),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("false") && name == SWITCH => Value::Bool(false),
            Some(Token::Text(text)) if name != SWITCH => Value::Text(text.clone()),
            _ if name == SWITCH => return Err(self.wrong("true or false is expected")),
            _ => return Err(self.wrong("a text in quotes or null is expected")),
        };
        self.next += 1;
        Ok(value)
    }
}

/// How a text is compared.
const OPERATORS: [&str; 12] =
    ["eq", "ne", "startsWith", "notStartsWith", "endsWith", "notEndsWith", "contains", "notContains", "match", "notMatch", "in", "notIn"];

fn one_or(mut tests: Vec<Test>, many: fn(Vec<Test>) -> Test) -> Test {
    match tests.pop() {
        Some(only) if tests.is_empty() => only,
        last => {
            tests.extend(last);
            many(tests)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_entra_writes_them() {
        let rule = Rule::parse("(device.deviceOSType -eq \"Windows\") -and -not (device.displayName -startsWith \"LAB-\")").unwrap();
        assert_eq!(rule.subject, Subject::Device);
        let not = Test::Not(Box::new(Test::Begins("displayName", "LAB-".into())));
        assert_eq!(rule.test, Test::All(vec![Test::Is("deviceOSType", Value::Text("Windows".into())), not]));
        // Whatever the case, with or without hyphens; -and binds closer than -or.
        let rule = Rule::parse("USER.department EQ 'a' or user.mail -ne null AND user.accountEnabled -eq True").unwrap();
        let second = vec![Test::Not(Box::new(Test::Is("mail", Value::Null))), Test::Is("accountEnabled", Value::Bool(true))];
        assert_eq!(rule.test, Test::Any(vec![Test::Is("department", Value::Text("a".into())), Test::All(second)]));
        let rule = Rule::parse("user.displayName -notIn [\"say `\"a`\"\", 'b']").unwrap();
        let both = ["say \"a\"", "b"].map(|text| Test::Is("displayName", Value::Text(text.into())));
        assert_eq!(rule.test, Test::Not(Box::new(Test::Any(both.to_vec()))));
    }

    #[test]
    fn what_is_no_rule_is_told_with_its_place() {
        let deep = format!("{}user.mail -eq null", "(".repeat(5000 / 2));
        let many = vec!["user.mail eq ''"; 205].join("or ");
        let patterns = ["user.mail match 'x'"; 12].join(" or ");
        for (text, at) in [
            ("", 1),
            ("user.mail", 10),
            ("user.password -eq \"x\"", 1),
            ("mail -eq \"x\"", 1),
            ("user.mail -like \"x\"", 11),
            ("user.mail -match \"(\"", 18),
            ("user.mail -match \"(?=x)\"", 18),
            ("user.mail -match \"(x)\\1\"", 18),
            ("user.mail -match \"(a{1000}){1000}\"", 18),
            (patterns.as_str(), 247),
            ("device.devicePhysicalIds -eq \"x\"", 26),
            ("device.devicePhysicalIds -any \"x\"", 31),
            ("device.devicePhysicalIds -any (device.displayName -eq \"x\")", 32),
            ("device.devicePhysicalIds -any (_ -eq \"x\"", 41),
            ("_ -eq \"x\"", 1),
            ("user.mail -eq x", 15),
            ("user.mail -eq \"x", 15),
            ("user.mail -contains null", 21),
            ("user.accountEnabled -eq \"true\"", 25),
            ("user.mail -eq null -and device.displayName -eq \"x\"", 25),
            ("user.mail -eq null user.mail", 20),
            ("(user.mail -eq null", 20),
            ("user.mail -in \"x\"", 15),
            ("user.mail -eq null; --", 19),
            (deep.as_str(), 26),
            (many.as_str(), LONGEST),
        ] {
            let wrong = Rule::parse(text).unwrap_err();
            assert_eq!(wrong.at, at, "{wrong}: {text}");
        }
    }

    #[test]
    fn patterns_and_several_values_are_asked_for() {
        let of = |name: &str| match name {
            "devicePhysicalIds" => Value::Texts(vec!["[OrderID]:Sales".into(), "[ZTDID]:1".into()]),
            "deviceModel" => Value::Null,
            _ => Value::Text("PC-0142".into()),
        };
        for (rule, expected) in [
            ("device.displayName -match \"^pc-[0-9]+$\"", true),
            ("device.displayName -match \"14\"", true),
            ("device.displayName -notMatch \"^14\"", true),
            ("device.deviceModel -match \".*\"", false),
            ("device.deviceModel -notMatch \".*\"", true),
            ("device.displayName -endsWith \"142\" -and device.displayName -notEndsWith \"pc\"", true),
            ("device.devicePhysicalIds -any (_ -eq \"[orderid]:sales\")", true),
            ("device.devicePhysicalIds -any (_ -startsWith \"[OrderID]:\" -and _ -notContains \"sales\")", false),
            ("device.devicePhysicalIds -all (_ -match \"^\\[\")", true),
            ("-not (device.devicePhysicalIds -all (_ -eq \"[ZTDID]:1\"))", true),
        ] {
            assert_eq!(Rule::parse(rule).unwrap().test.is_true(&of), expected, "{rule}");
        }
        // Time that grows with the text: others look back for ever.
        let evil = Rule::parse("device.displayName -match \"^(a+)+$\"").unwrap();
        let long = format!("{}!", "a".repeat(100_000));
        assert!(!evil.test.is_true(&|_| Value::Text(long.clone())));
        assert!(evil.test.has_pattern() && !Rule::parse("user.mail -eq null").unwrap().test.has_pattern());
    }

    #[test]
    fn nothing_equals_only_nothing() {
        let of = |name: &str| if name == "department" { Value::Null } else { Value::Text("Ana".into()) };
        for (rule, expected) in [
            ("user.department -eq null", true),
            ("user.department -ne \"Sales\"", true),
            ("user.department -eq \"\"", false),
            ("user.department -notContains \"a\"", true),
            ("user.displayName -eq \"ANA\"", true),
            ("user.displayName -contains \"n\" -and user.displayName -ne null", true),
        ] {
            assert_eq!(Rule::parse(rule).unwrap().test.is_true(&of), expected, "{rule}");
        }
    }
}
