//! One file: its text, and the faults found in it so far.

use std::cell::RefCell;
use std::path::Path;

use toml::de::DeTable;

use super::excerpt;
use super::fault::FileFault;
use super::section::Section;

/// The text of the file at `path`; `None` when there is no such file.
///
/// # Errors
///
/// The file cannot be read, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<Option<String>, Vec<FileFault>> {
    let file = path.display().to_string();
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(vec![FileFault::of_file(&file, format!("cannot be read: {error}"))]),
    };
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let line = line_at(error.as_bytes(), error.utf8_error().valid_up_to());
        vec![FileFault { line: Some(line), ..FileFault::of_file(&file, "is not UTF-8 text; save the file as UTF-8") }]
    })
}

/// The text of one file and the faults found in it so far.
#[derive(Debug)]
pub struct Source<'i> {
    file: &'i str,
    pub(super) text: &'i str,
    /// Each with the line that it is reported under, which may be another file's.
    faults: RefCell<Vec<(Option<usize>, FileFault)>>,
}

impl<'i> Source<'i> {
    /// The content `text` of `file`, without faults so far.
    pub fn new(file: &'i str, text: &'i str) -> Self {
        Self { file, text, faults: RefCell::default() }
    }

    /// The whole file as a section; `None` when it is not TOML, which was noted.
    pub fn root(&self) -> Option<Section<'_, 'i>> {
        match DeTable::parse(self.text) {
            Ok(table) => Some(Section::new(self, String::new(), None, table.into_inner())),
            Err(error) => {
                let line = error.span().map(|span| self.line(span.start));
                let written = line.and_then(|line| self.text.lines().nth(line - 1)).unwrap_or_default();
                let reason = format!("not TOML: {}: {}", error.message().replace('\n', " "), excerpt(written.trim()));
                self.note(FileFault { line, ..FileFault::of_file(self.file, reason) });
                None
            }
        }
    }

    /// All faults in the order of the file, those that are in no line first.
    pub fn into_faults(self) -> Vec<FileFault> {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|(line, _)| *line);
        faults.into_iter().map(|(_, fault)| fault).collect()
    }

    /// Notes a fault at `offset` of the text.
    pub(super) fn fault(
        &self,
        offset: Option<usize>,
        key: String,
        value: Option<String>,
        reason: String,
        section: Option<String>,
    ) {
        let line = offset.map(|offset| self.line(offset));
        self.note(FileFault { file: self.file.to_owned(), line, key, value, reason, section });
    }

    /// Where something stands: a fault without its reason.
    pub(super) fn place(&self, offset: usize, key: String, value: String, section: Option<String>) -> FileFault {
        let line = Some(self.line(offset));
        FileFault { file: self.file.to_owned(), line, key, value: Some(value), reason: String::new(), section }
    }

    /// Notes faults of another file, which the value at `offset` names.
    pub(super) fn adopt(&self, offset: usize, faults: Vec<FileFault>) {
        let line = self.line(offset);
        self.faults.borrow_mut().extend(faults.into_iter().map(|fault| (Some(line), fault)));
    }

    fn note(&self, fault: FileFault) {
        self.faults.borrow_mut().push((fault.line, fault));
    }

    fn line(&self, offset: usize) -> usize {
        line_at(self.text.as_bytes(), offset)
    }
}

fn line_at(text: &[u8], offset: usize) -> usize {
    1 + text.iter().take(offset).filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Item;

    #[test]
    fn a_fault_points_at_its_line_and_quotes_what_stands_there() {
        let source = Source::new("x.toml", "a = 1\n\n[b]\nc = [1,\n 2]\n");
        let mut root = source.root().unwrap();
        let mut section = root.take("b").and_then(Item::section).unwrap();

        section.take("c").unwrap().text();
        section.missing("d", "a number");
        section.finish();
        root.missing("e", "a word");
        root.finish();

        let shown: Vec<String> = source.into_faults().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "x.toml: e: missing: a word",
                "x.toml:1: a: unknown key (known here: b)",
                "x.toml:3: b.d: missing: a number",
                "x.toml:4: b.c = [1,  2]: must be text in quotes",
            ]
        );
    }

    #[test]
    fn a_section_of_a_list_is_called_by_its_name_as_well() {
        let source = Source::new("x.toml", "[[device]]\n[[device]]\nunit_id = 0\nuint_id = 1\n");
        let mut section = source.root().unwrap().sections("device").pop().unwrap();

        section.call("press-1");
        section.take("unit_id").unwrap().integer(1..=247);
        section.finish();

        let shown: Vec<String> = source.into_faults().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "x.toml:3: device[2].unit_id = 0: must be a whole number from 1 to 247 (device press-1)",
                "x.toml:4: device[2].uint_id: unknown key; did you mean \"unit_id\"? (known here: unit_id) \
                 (device press-1)",
            ]
        );
    }

    #[test]
    fn faults_of_another_file_stand_where_it_is_named() {
        let source = Source::new("x.toml", "profile = \"y\"\n\nz = 1\n");
        let mut root = source.root().unwrap();

        let profile = root.take("profile").unwrap();
        root.finish();
        profile.adopt(vec![FileFault { line: Some(9), ..FileFault::of_file("y.toml", "broken") }]);

        let shown: Vec<String> = source.into_faults().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["y.toml:9: broken", "x.toml:3: z: unknown key (known here: profile)"]);
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.toml");
        std::fs::write(&path, b"a = 1\nb = \"caf\xe9\"\n").unwrap();

        let fault = read_text(&path).unwrap_err().remove(0);

        assert!(fault.to_string().ends_with("x.toml:2: is not UTF-8 text; save the file as UTF-8"), "{fault}");
        assert_eq!(read_text(&directory.path().join("y.toml")), Ok(None));
    }
}
