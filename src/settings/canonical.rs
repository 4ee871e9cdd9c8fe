//! What a file says, whatever its layout: two files that mean the same give the same text, and no others do.

use std::fmt::Write;

use toml::{Table, Value};

/// The keys and values of a TOML file, keys in alphabetical order; nothing for what is not TOML.
pub fn canonical(text: &str) -> String {
    let mut said = String::new();
    if let Ok(table) = text.parse::<Table>() {
        say_table(&table, &mut said);
    }
    said
}

fn say_table(table: &Table, said: &mut String) {
    let mut entries: Vec<(&String, &Value)> = table.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    said.push('{');
    for (key, value) in entries {
        // Writing to a text never fails.
        let _ = write!(said, "{key:?}=");
        say(value, said);
    }
    said.push('}');
}

fn say(value: &Value, said: &mut String) {
    let _ = match value {
        Value::Table(table) => {
            say_table(table, said);
            Ok(())
        }
        Value::Array(values) => {
            said.push('[');
            values.iter().for_each(|value| say(value, said));
            said.push(']');
            Ok(())
        }
        Value::String(text) => write!(said, "{text:?},"),
        Value::Integer(number) => write!(said, "{number}i,"),
        Value::Float(number) => write!(said, "{number:?}f,"),
        Value::Boolean(bit) => write!(said, "{bit},"),
        Value::Datetime(time) => write!(said, "{time}t,"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_does_not_count_and_everything_else_does() {
        let text = "b = 1 # one\n[a]\nx = [\"1\", 2.0]\n";
        assert_eq!(canonical(text), "{\"a\"={\"x\"=[\"1\",2.0f,]}\"b\"=1i,}");
        assert_eq!(canonical(text), canonical("a = { x = [\n  '1',\n 2.0 ] }\n\n\"b\" = 0x1\n"));
        for other in ["b = 1.0", "b = \"1\"", "b = [1]", "b = true", "b = 1979-05-27", "b = \"\"\"1\n#\"\"\""] {
            assert_ne!(canonical(other), canonical("b = 1"), "{other}");
        }
        assert_eq!(canonical("nonsense"), "");
    }
}
