//! Predicates of activations: conditions that the device evaluates (`@status(device.operating-system.family) == 'macOS'`). What a device
//! cannot parse disables the whole activation, so that a predicate is read here before it is sent.

use super::super::Malformed;

/// Longest predicate, in bytes.
const LONGEST: usize = 8 * 1024;
/// Deepest nesting.
const DEEPEST: usize = 32;
/// Most predicates and operands that are tried.
const MOST: usize = 20_000;

/// Checks that a predicate is one that devices parse.
///
/// # Errors
/// What is wrong, and at which byte.
pub fn check(text: &str) -> Result<(), Malformed> {
    if text.len() > LONGEST {
        return Err(Malformed::new("the predicate is too long", format!("byte {LONGEST}")));
    }
    let mut parser = Parser { text, at: 0, depth: 0, steps: 0 };
    parser.any()?;
    parser.blank();
    if parser.at < text.len() { Err(parser.wrong("something after the predicate")) } else { Ok(()) }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    steps: usize,
}

impl<'t> Parser<'t> {
    fn wrong(&self, what: &'static str) -> Malformed {
        Malformed::new(what, format!("byte {}", self.at))
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn blank(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Takes a sign.
    fn sign(&mut self, sign: &str) -> bool {
        self.blank();
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len();
        }
        found
    }

    /// Takes a word, whatever its case, that does not go on.
    fn word(&mut self, word: &str) -> bool {
        self.blank();
        let rest = self.rest();
        let found = rest.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
            && !rest.get(word.len()..).unwrap_or_default().starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if found {
            self.at += word.len();
        }
        found
    }

    /// One level deeper. Brackets are read twice where they may begin either a predicate or an operand, so that steps are counted, too.
    fn enter(&mut self) -> Result<(), Malformed> {
        self.depth += 1;
        self.steps += 1;
        if self.depth > DEEPEST || self.steps > MOST { Err(self.wrong("nested too deeply")) } else { Ok(()) }
    }

    fn any(&mut self) -> Result<(), Malformed> {
        self.enter()?;
        self.all()?;
        while self.sign("||") || self.word("OR") {
            self.all()?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn all(&mut self) -> Result<(), Malformed> {
        self.one()?;
        while self.sign("&&") || self.word("AND") {
            self.one()?;
        }
        Ok(())
    }

    fn one(&mut self) -> Result<(), Malformed> {
        // `!` may stand several times, and needs no more room than its depth.
        let mut negations = 0;
        loop {
            self.blank();
            let negated = (self.rest().starts_with('!') && !self.rest().starts_with("!=") && self.sign("!")) || self.word("NOT");
            if !negated {
                break;
            }
            negations += 1;
            if negations > DEEPEST {
                return Err(self.wrong("nested too deeply"));
            }
        }
        if self.word("TRUEPREDICATE") || self.word("FALSEPREDICATE") {
            return Ok(());
        }
        // A bracket begins a predicate or an operand; which one shows only behind it.
        let before = (self.at, self.depth);
        if self.sign("(") {
            if self.any().is_ok() && self.sign(")") && !self.compares() {
                return Ok(());
            }
            (self.at, self.depth) = before;
        }
        self.comparison()
    }

    /// Whether an operator of a comparison follows.
    fn compares(&mut self) -> bool {
        let before = self.at;
        let found = self.operator();
        self.at = before;
        found
    }

    fn comparison(&mut self) -> Result<(), Malformed> {
        let _ = ["ANY", "ALL", "SOME", "NONE"].into_iter().any(|word| self.word(word));
        self.operand()?;
        if !self.operator() {
            return Err(self.wrong("a comparison is expected"));
        }
        self.operand()
    }

    fn operator(&mut self) -> bool {
        if ["==", "=>", "=<", "!=", "<>", "<=", ">=", "=", "<", ">"].into_iter().any(|sign| self.sign(sign)) {
            return true;
        }
        let words = ["BETWEEN", "IN", "CONTAINS", "BEGINSWITH", "ENDSWITH", "LIKE", "MATCHES"];
        let found = words.into_iter().any(|word| self.word(word));
        // Without regard to case, or to accents.
        found && (!self.sign("[") || { ["cd]", "c]", "d]"].into_iter().any(|options| self.sign(options)) })
    }

    fn operand(&mut self) -> Result<(), Malformed> {
        self.enter()?;
        self.term()?;
        while ["+", "-", "*", "/"].into_iter().any(|sign| self.sign(sign)) {
            self.term()?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn term(&mut self) -> Result<(), Malformed> {
        self.blank();
        if self.rest().starts_with('%') {
            return Err(self.wrong("arguments cannot be sent with a predicate"));
        }
        if self.sign("(") {
            self.operand()?;
            return if self.sign(")") { self.path() } else { Err(self.wrong("a bracket is not closed")) };
        }
        if self.sign("{") {
            if !self.sign("}") {
                self.operand()?;
                while self.sign(",") {
                    self.operand()?;
                }
                if !self.sign("}") {
                    return Err(self.wrong("a list is not closed"));
                }
            }
            return Ok(());
        }
        if let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"')) {
            return self.string(quote);
        }
        if self.word("SUBQUERY") {
            let opened = self.sign("(");
            self.operand()?;
            let named = self.sign(",") && self.sign("$") && self.name() && self.sign(",");
            self.any()?;
            return if opened && named && self.sign(")") { self.path() } else { Err(self.wrong("not a subquery")) };
        }
        for function in ["@status", "@property", "@key"] {
            if self.sign(function) {
                let held = self.sign("(") && self.name();
                return if held && self.sign(")") { self.path() } else { Err(self.wrong("the function needs the name of a key")) };
            }
        }
        let number = self.rest().trim_start_matches(['-', '+']);
        if number.starts_with(|c: char| c.is_ascii_digit()) {
            let length = number.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(number.len());
            self.at = self.text.len() - number.len() + length;
            return Ok(());
        }
        if ["TRUE", "FALSE", "YES", "NO", "NULL", "NIL"].into_iter().any(|word| self.word(word)) {
            return Ok(());
        }
        if self.sign("$") && self.name() {
            return self.path();
        }
        Err(self.wrong("a value, @status, @property or @key is expected"))
    }

    /// What may follow a value: keys inside it, and collection operators.
    fn path(&mut self) -> Result<(), Malformed> {
        while self.rest().starts_with('.') {
            self.at += 1;
            if self.rest().starts_with('@') {
                self.at += 1;
            }
            for function in ["key(", "status(", "property("] {
                if self.rest().starts_with(function) {
                    self.at += function.len();
                    if !(self.name() && self.sign(")")) {
                        return Err(self.wrong("the function needs the name of a key"));
                    }
                }
            }
            if !self.text.get(..self.at).is_some_and(|read| read.ends_with(')')) && !self.name() {
                return Err(self.wrong("a key is expected"));
            }
        }
        Ok(())
    }

    /// Takes a name: words with dots and hyphens between them.
    fn name(&mut self) -> bool {
        self.blank();
        let rest = self.rest();
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let length = rest.find(|c| !inside(c)).unwrap_or(rest.len());
        // A collection operator behind the name (`.@count`) is not part of it.
        let name = rest.get(..length).unwrap_or_default();
        let name = if rest.get(length..).unwrap_or_default().starts_with('@') { name.trim_end_matches('.') } else { name };
        self.at += name.len();
        !name.is_empty()
    }

    fn string(&mut self, quote: char) -> Result<(), Malformed> {
        let mut escaped = false;
        let rest = self.rest();
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if c == quote => {
                    self.at += at + c.len_utf8();
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(self.wrong("a text is not closed"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_devices_parse_passes() {
        for text in [
            "TRUEPREDICATE",
            "@status(device.operating-system.family) == 'macOS'",
            "@property(shard) < 10 AND NOT (@status(passcode.is-present) == TRUE)",
            "(@property(a) == 1) || (@property(b) IN {'x', \"y\"}) && !(@property(c) != NULL)",
            "(@property(a) + 1) * 2 >= -3.5",
            "@property(name) BEGINSWITH[cd] 'a\\'b'",
            "SUBQUERY(@status(mdm.app), $app, $app.@key(identifier) == 'com.example' AND $app.state == 'managed').@count > 0",
            "SUBQUERY(@status(device.list),$x,@key(identifier) == 'a').@count == 1",
            "ANY @property(groups) == 'staff'",
            "@property(n) BETWEEN {1, 5}",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_devices_do_not_parse_is_refused() {
        for text in [
            "",
            "@status(device.model.family)",
            "@status() == 1",
            "@other(x) == 1",
            "family == 'Mac'",
            "@property(a) == %@",
            "@property(a) === 1",
            "@property(a) == 'open",
            "(@property(a) == 1",
            "@property(a) == 1)",
            "@property(a) == 1 AND",
            "@property(a) LIKE[x] 'a'",
            "SUBQUERY(@status(x), app, TRUEPREDICATE).@count > 0",
            "{1, 2",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
        assert!(check(&"(".repeat(5_000)).is_err());
        assert!(check(&format!("{}1{}", "(".repeat(30), ")".repeat(30))).is_err());
        assert!(check(&format!("{}TRUEPREDICATE", "!".repeat(5_000))).is_err());
        assert!(check(&format!("@property(a) == '{}'", "x".repeat(LONGEST))).is_err());
    }

    proptest! {
        #[test]
        fn texts_never_panic(text in "(@status\\(|@key\\(|a|\\)|\\(|=|<|'|\\\\|AND |NOT |!|\\{|\\}|,|\\$|SUBQUERY|\\.|@count|1| |ü){0,40}") {
            let _ = check(&text);
        }
    }
}
