//! Folding: free text at words, SQL so that it can still be pasted.

use super::WIDTH;

/// Lines of one text, before the rest of it is left out.
const LONGEST: usize = 6;

/// Free text behind `head`; its further lines stand `hang` blanks to the right.
pub(crate) fn text(head: &str, hang: usize, text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = head.to_owned();
    let mut has_words = false;
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word
            .chars()
            .map(|letter| if letter.is_control() { '?' } else { letter })
            .collect();
        loop {
            let blank = usize::from(has_words);
            let room = WIDTH.saturating_sub(length(&line) + blank);
            if rest.len() <= room {
                line.push_str(&" ".repeat(blank));
                line.extend(&rest);
                has_words = true;
                break;
            }
            // A word that is longer than any line is cut.
            if !has_words {
                line.extend(rest.drain(..room.max(1).min(rest.len())));
            }
            lines.push(std::mem::replace(&mut line, " ".repeat(hang)));
            has_words = false;
        }
    }
    lines.push(line);
    if lines.len() > LONGEST {
        lines.truncate(LONGEST);
        lines.push(format!("{}...", " ".repeat(hang)));
    }
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines
}

/// A remedy. Each line of it begins a line; a longer one is broken where SQL has or may have a blank, never within a
/// name, and within a literal only as SQL continues it (`'one'` newline `'two'`). A comment goes on as a comment. What
/// cannot be broken at all, as a name of some forty quotation marks, stays whole.
pub(crate) fn sql(indent: usize, sql: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = Line::new(indent);
    for piece in pieces(sql) {
        match piece {
            Piece::End => line.end(&mut lines),
            Piece::Comment(word) => line.add_comment(&word, &mut lines),
            Piece::Word(word) => line.add_word(&word, &mut lines),
        }
    }
    line.end(&mut lines);
    lines
}

enum Piece {
    /// Between blanks outside of quotes.
    Word(String),
    /// The same of a comment; the first one is `--`.
    Comment(String),
    End,
}

struct Line {
    indent: usize,
    /// Without the indentation.
    text: String,
    /// How far a continuation is moved to the right.
    hang: usize,
}

impl Line {
    fn new(indent: usize) -> Self {
        Self {
            indent,
            text: String::new(),
            hang: 0,
        }
    }

    fn room(&self) -> usize {
        WIDTH.saturating_sub(self.indent + self.hang + length(&self.text))
    }

    fn push(&mut self, lines: &mut Vec<String>) {
        let text = std::mem::take(&mut self.text);
        let text = text.trim_end();
        if !text.is_empty() {
            lines.push(format!("{}{text}", " ".repeat(self.indent + self.hang)));
            self.hang = 2;
        }
    }

    /// Of a line of the source.
    fn end(&mut self, lines: &mut Vec<String>) {
        self.push(lines);
        self.hang = 0;
    }

    fn add_comment(&mut self, word: &str, lines: &mut Vec<String>) {
        if !self.text.is_empty() && self.room() < length(word) + 1 {
            self.push(lines);
            self.hang = 0;
            if word != "--" {
                self.text.push_str("--");
            }
        }
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        let mut rest: Vec<char> = word.chars().collect();
        while rest.len() > self.room() && self.room() > 0 {
            self.text.extend(rest.drain(..self.room()));
            self.push(lines);
            self.hang = 0;
            self.text.push_str("-- ");
        }
        self.text.extend(rest);
    }

    fn add_word(&mut self, word: &str, lines: &mut Vec<String>) {
        let blank = usize::from(!self.text.is_empty());
        let fits_a_line = length(word) + self.indent + 2 <= WIDTH;
        if fits_a_line && length(word) + blank > self.room() {
            self.push(lines);
        } else if blank > 0 {
            self.text.push(' ');
        }
        if fits_a_line {
            self.text.push_str(word);
            return;
        }
        for atom in atoms(word) {
            if length(&atom) > self.room() {
                self.push(lines);
            }
            let parts = if length(&atom) > self.room() {
                literal_parts(&atom, self.room())
            } else {
                vec![atom]
            };
            for (place, part) in parts.iter().enumerate() {
                if place > 0 {
                    self.push(lines);
                }
                self.text.push_str(part);
            }
        }
    }
}

/// What a place of SQL belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Within {
    Code,
    Comment,
    /// Up to the same text.
    Quotes(String),
}

/// Follows the quotes of SQL from one character to the next. A doubled quote closes and opens again, which comes to the
/// same.
struct Scanner<'a> {
    rest: &'a str,
    within: Within,
}

impl<'a> Scanner<'a> {
    fn new(sql: &'a str) -> Self {
        Self {
            rest: sql,
            within: Within::Code,
        }
    }

    /// The next character, or a whole delimiter, and what it belongs to; delimiters belong to what they enclose.
    fn next(&mut self) -> Option<(&'a str, Within)> {
        let first = self.rest.chars().next()?;
        let mut size = first.len_utf8();
        let mut belongs_to = self.within.clone();
        match &self.within {
            Within::Comment if first == '\n' => {
                self.within = Within::Code;
                belongs_to = Within::Code;
            }
            Within::Comment => {}
            Within::Quotes(end) => {
                if self.rest.starts_with(end.as_str()) {
                    size = end.len();
                    self.within = Within::Code;
                }
            }
            Within::Code => {
                if self.rest.starts_with("--") {
                    size = 2;
                    self.within = Within::Comment;
                } else if matches!(first, '\'' | '"') {
                    self.within = Within::Quotes(first.to_string());
                } else if let Some(delimiter) = dollar_quote(self.rest) {
                    size = delimiter.len();
                    self.within = Within::Quotes(delimiter.to_owned());
                }
                belongs_to = self.within.clone();
            }
        }
        let (text, rest) = self.rest.split_at(size);
        self.rest = rest;
        Some((text, belongs_to))
    }
}

/// `$$` or `$tag$` at the beginning.
fn dollar_quote(text: &str) -> Option<&str> {
    let end = text.strip_prefix('$')?.find('$')?;
    let tag = &text[1..=end];
    let is_tag = tag.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !tag.starts_with(|c: char| c.is_ascii_digit());
    is_tag.then(|| &text[..end + 2])
}

fn pieces(sql: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut word = String::new();
    let mut is_comment = false;
    let mut scanner = Scanner::new(sql);
    while let Some((text, within)) = scanner.next() {
        let begins_comment = within == Within::Comment && !is_comment;
        let is_blank = text.chars().all(char::is_whitespace);
        let ends =
            text == "\n" || (is_blank && !matches!(within, Within::Quotes(_))) || begins_comment;
        if ends && !word.is_empty() {
            let word = std::mem::take(&mut word);
            pieces.push(if is_comment {
                Piece::Comment(word)
            } else {
                Piece::Word(word)
            });
        }
        is_comment = within == Within::Comment;
        if begins_comment {
            pieces.push(Piece::Comment("--".to_owned()));
        } else if text == "\n" {
            pieces.push(Piece::End);
        } else if !ends {
            word.push_str(text);
        }
    }
    if !word.is_empty() {
        pieces.push(if is_comment {
            Piece::Comment(word)
        } else {
            Piece::Word(word)
        });
    }
    pieces
}

/// A word in parts between which SQL may have a blank: after a comma, an opening parenthesis, the dot of a qualified
/// name, and after the end of quotes.
fn atoms(word: &str) -> Vec<String> {
    let mut atoms = Vec::new();
    let mut atom = String::new();
    let mut scanner = Scanner::new(word);
    let mut before = String::new();
    while let Some((text, within)) = scanner.next() {
        atom.push_str(text);
        let may_end = match &within {
            Within::Code => {
                matches!(text, "," | "(") || (text == "." && !before.ends_with(char::is_numeric))
            }
            // Closed, and not opened again by a doubled quote. A comma or a dot stays with it.
            Within::Quotes(end) => {
                scanner.within == Within::Code
                    && !scanner.rest.starts_with(end.as_str())
                    && !scanner.rest.starts_with([',', '.', ')', ';'])
            }
            Within::Comment => false,
        };
        before = text.to_owned();
        if may_end {
            atoms.push(std::mem::take(&mut atom));
        }
    }
    if !atom.is_empty() {
        atoms.push(atom);
    }
    atoms
}

/// A literal that is too long, in several that SQL takes for one when a newline is between them. Anything else is
/// returned as it is.
fn literal_parts(atom: &str, room: usize) -> Vec<String> {
    let Some(start) = atom.find('\'') else {
        return vec![atom.to_owned()];
    };
    let Some(end) = atom.rfind('\'').filter(|&end| end > start) else {
        return vec![atom.to_owned()];
    };
    let (opening, suffix) = (&atom[..=start], &atom[end..]);
    if opening.contains(['"', '$']) || room < length(opening) + length(suffix) + 8 {
        return vec![atom.to_owned()];
    }
    let content: Vec<char> = atom[start + 1..end].chars().collect();
    let mut parts = Vec::new();
    let mut rest = content.as_slice();
    loop {
        let opening = if parts.is_empty() { opening } else { "'" };
        if rest.len() + length(opening) + length(suffix) <= room {
            let content: String = rest.iter().collect();
            parts.push(format!("{opening}{content}{suffix}"));
            return parts;
        }
        let most = room - length(opening) - 1;
        let (part, remainder) = rest.split_at(place_to_cut(rest, most));
        let content: String = part.iter().collect();
        parts.push(format!("{opening}{content}'"));
        rest = remainder;
    }
}

/// Not between two quotes or two backslashes that are one, nor behind a single one. `text` begins where none is open.
fn place_to_cut(text: &[char], most: usize) -> usize {
    let most = most.min(text.len());
    let allowed = |&place: &usize| {
        let mut before = text.iter().take(place).rev();
        match before.clone().next() {
            Some(letter @ ('\'' | '\\')) => {
                before.position(|other| other != letter).unwrap_or(place) % 2 == 0
            }
            _ => place > 0,
        }
    };
    let pleasant = |&place: &usize| matches!(text.get(place - 1), Some(' ' | '.' | ','));
    (most / 2..=most)
        .rev()
        .find(|place| allowed(place) && pleasant(place))
        .or_else(|| (1..=most).rev().find(allowed))
        .unwrap_or(most.max(1))
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests;
