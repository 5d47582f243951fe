//! Rust source as text: comments and literals blanked, test modules cut, so that searches mean code.
//!
//! No parser: it knows only what hides or ends such a region.

/// The source with comments, strings and characters replaced by spaces; lines stay where they were.
pub fn code_only(source: &str) -> String {
    let text: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < text.len() {
        let end = hidden_end(&text, at);
        if end > at {
            code.extend(text[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            code.push(text[at]);
            at += 1;
        }
    }
    code
}

/// `code` (from [`code_only`]) with the bodies of `#[cfg(test)]` modules emptied, their lines removed.
pub fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(found) = rest.find("#[cfg(test)]") {
        let after = &rest[found..];
        kept.push_str(&rest[..found]);
        let is_module = after["#[cfg(test)]".len()..].trim_start().starts_with("mod ");
        let end = match (is_module, block_end(after)) {
            (true, Some(end)) => end,
            _ => "#[cfg(test)]".len(),
        };
        rest = &after[end..];
    }
    kept.push_str(rest);
    kept
}

/// Where the comment or literal that starts at `at` ends; `at` itself if none starts there.
fn hidden_end(text: &[char], at: usize) -> usize {
    let next = text.get(at + 1).copied();
    match (text[at], next) {
        ('/', Some('/')) => (at..text.len()).find(|&i| text[i] == '\n').unwrap_or(text.len()),
        ('/', Some('*')) => block_comment_end(text, at),
        ('"', _) => string_end(text, at + 1),
        ('r', Some('"' | '#')) if !in_word(text, at) => raw_string_end(text, at),
        ('\'', Some('\\')) => (at + 3..text.len()).find(|&i| text[i] == '\'').map_or(at, |i| i + 1),
        ('\'', _) if text.get(at + 2) == Some(&'\'') => at + 3,
        _ => at,
    }
}

fn in_word(text: &[char], at: usize) -> bool {
    // The b and c of br"" and cr"" belong to the literal.
    at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_') && !matches!(text[at - 1], 'b' | 'c')
}

fn block_comment_end(text: &[char], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut i = at;
    while i + 1 < text.len() {
        match (text[i], text[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    text.len()
}

fn string_end(text: &[char], mut i: usize) -> usize {
    while i < text.len() {
        match text[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    text.len()
}

fn raw_string_end(text: &[char], at: usize) -> usize {
    let hashes = text[at + 1..].iter().take_while(|c| **c == '#').count();
    if text.get(at + 1 + hashes) != Some(&'"') {
        return at; // r#keyword
    }
    let first = at + 2 + hashes;
    (first..text.len())
        .find(|&i| {
            text[i] == '"' && text[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
        })
        .map_or(text.len(), |i| i + 1 + hashes)
}

/// The byte just past the brace that closes the first one opened in `code`.
fn block_end(code: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (i, c) in code.char_indices() {
        match c {
            ';' if depth == 0 => return None,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_blank() {
        let source = "let a = \"crate::x \\\" \"; // crate::y\nlet b = r#\"crate::z \" \"#; let c = '\"'; let d: &'a str = '\\'';";
        let code = code_only(source);
        assert!(!code.contains("crate"), "{code}");
        assert!(code.contains("let b =") && code.contains("let c =") && code.contains("&'a str"), "{code}");
        assert_eq!(code.lines().count(), 2);
    }

    #[test]
    fn nested_block_comments_end_where_the_outer_one_does() {
        assert_eq!(code_only("a /* b /* c */ d */ e").replace(' ', ""), "ae");
    }

    #[test]
    fn a_test_module_is_cut_and_what_follows_stays() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { } }\nfn c() {}\n#[cfg(test)]\nfn d() {}";
        let kept = without_tests(code);
        assert!(
            kept.contains("fn a") && kept.contains("fn c") && kept.contains("fn d") && !kept.contains("fn b"),
            "{kept}"
        );
    }
}
