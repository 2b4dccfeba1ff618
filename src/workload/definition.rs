//! Definition files: TOML, with the line of everything that is wrong.

use super::arrival::Arrivals;
use super::distribution::{KeyDistribution, RowsPerTxn};
use super::error::{WorkloadError, closest};
use super::quantity;
use super::settings::{Model, Settings, Shares, check_shares};
use super::transform_spec::{Literal, TransformSpec};
use crate::bounded;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;

/// The built-in workloads, the default first.
const BUILT_IN: [(&str, &str); 7] = [
    ("orders", include_str!("../../datasets/orders.toml")),
    ("ycsb-a", include_str!("../../datasets/ycsb-a.toml")),
    ("ycsb-b", include_str!("../../datasets/ycsb-b.toml")),
    ("ycsb-c", include_str!("../../datasets/ycsb-c.toml")),
    ("ycsb-d", include_str!("../../datasets/ycsb-d.toml")),
    ("ycsb-e", include_str!("../../datasets/ycsb-e.toml")),
    ("ycsb-f", include_str!("../../datasets/ycsb-f.toml")),
];

const DEFINITION_BYTES_MAX: u64 = 1024 * 1024;

/// The names of the built-in workloads, the default first.
pub fn built_in_names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDefinition {
    model: Model,
    about: String,
    #[serde(default)]
    origin: String,
    #[serde(deserialize_with = "rows")]
    rows: u64,
    #[serde(deserialize_with = "rate")]
    rate: f64,
    #[serde(default = "poisson")]
    arrivals: Arrivals,
    #[serde(deserialize_with = "duration")]
    duration: Duration,
    #[serde(default = "four", deserialize_with = "clients")]
    clients: u32,
    #[serde(default = "forty_two", deserialize_with = "seed")]
    seed: u64,
    #[serde(default = "scrambled")]
    keys: KeyDistribution,
    #[serde(default = "skewed", deserialize_with = "theta")]
    theta: f64,
    #[serde(default, deserialize_with = "rows_per_txn")]
    rows_per_txn: Option<RowsPerTxn>,
    #[serde(default = "hundred", deserialize_with = "value_bytes")]
    value_bytes: u32,
    #[serde(default = "ten", deserialize_with = "fields")]
    fields: u32,
    #[serde(default = "hundred", deserialize_with = "scan_rows_max")]
    scan_rows_max: u32,
    shares: Spanned<BTreeMap<Spanned<String>, Spanned<f64>>>,
    #[serde(default)]
    transform: Vec<Spanned<TransformSpec>>,
}

fn poisson() -> Arrivals {
    Arrivals::Poisson
}
fn scrambled() -> KeyDistribution {
    KeyDistribution::ScrambledZipfian
}
fn four() -> u32 {
    4
}
fn forty_two() -> u64 {
    42
}
fn skewed() -> f64 {
    0.99
}
fn hundred() -> u32 {
    100
}
fn ten() -> u32 {
    10
}

/// Reads a value and checks it, so that the error carries the value's place.
fn checked<'de, D: Deserializer<'de>, Raw: Deserialize<'de>, T>(
    input: D,
    check: impl FnOnce(Raw) -> Result<T, String>,
) -> Result<T, D::Error> {
    check(Raw::deserialize(input)?).map_err(D::Error::custom)
}

fn with_unit(literal: Literal, example: &str) -> Result<String, String> {
    match literal {
        Literal::Text(text) => Ok(text),
        _ => Err(format!("write it as text with its unit, such as \"{example}\"")),
    }
}

fn rows<'de, D: Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
    checked(input, quantity::rows)
}
fn rate<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    checked(input, |raw| quantity::rate(quantity::parse_rate(&with_unit(raw, "500/s")?)?))
}
fn duration<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    checked(input, |raw| quantity::duration(quantity::parse_duration(&with_unit(raw, "10s")?)?))
}
fn clients<'de, D: Deserializer<'de>>(input: D) -> Result<u32, D::Error> {
    checked(input, quantity::clients)
}
fn seed<'de, D: Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
    checked(input, quantity::seed)
}
fn theta<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    checked(input, quantity::theta)
}
fn rows_per_txn<'de, D: Deserializer<'de>>(input: D) -> Result<Option<RowsPerTxn>, D::Error> {
    checked(input, |raw| quantity::rows_per_txn(raw).map(Some))
}
fn value_bytes<'de, D: Deserializer<'de>>(input: D) -> Result<u32, D::Error> {
    checked(input, |raw| quantity::value_bytes(quantity::parse_bytes(&with_unit(raw, "100B")?)?))
}
fn fields<'de, D: Deserializer<'de>>(input: D) -> Result<u32, D::Error> {
    checked(input, quantity::fields)
}
fn scan_rows_max<'de, D: Deserializer<'de>>(input: D) -> Result<u32, D::Error> {
    checked(input, quantity::scan_rows_max)
}

/// A definition, and the lines its transforms start on.
pub(super) struct Definition {
    pub(super) settings: Settings,
    pub(super) transforms: Vec<TransformSpec>,
    pub(super) transform_lines: Vec<usize>,
    pub(super) file: String,
}

impl Definition {
    /// Finds a built-in workload by its name, or reads a file.
    pub(super) fn find(name_or_path: &str) -> Result<Definition, WorkloadError> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_path) {
            return Definition::parse(name, &format!("built-in {name}"), text);
        }
        let path = Path::new(name_or_path);
        let read = |cause| WorkloadError::Read { path: path.to_owned(), cause };
        let text = match bounded::read_text(path, DEFINITION_BYTES_MAX) {
            Ok(text) => text,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                return Err(WorkloadError::Unknown {
                    name: name_or_path.to_owned(),
                    known: built_in_names().collect(),
                    suggestion: closest(name_or_path, built_in_names()).map(str::to_owned),
                });
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::FileTooLarge => {
                return Err(WorkloadError::TooLarge { path: path.to_owned(), limit_bytes: DEFINITION_BYTES_MAX });
            }
            Err(cause) => return Err(read(cause)),
        };
        let name = path.file_stem().map_or_else(|| name_or_path.into(), |stem| stem.to_string_lossy());
        Definition::parse(&name, name_or_path, &text)
    }

    /// Reads a definition's text; `file` is for messages.
    pub(super) fn parse(name: &str, file: &str, text: &str) -> Result<Definition, WorkloadError> {
        let wrong = |span: Option<Range<usize>>, message: String| {
            let line = line_of(text, span.map_or(0, |span| span.start));
            WorkloadError::Definition { file: file.to_owned(), line, message }
        };
        let raw: RawDefinition = toml::from_str(text).map_err(|error| wrong(error.span(), explain(error.message())))?;
        let shares = shares(raw.model, &raw.shares).map_err(|(span, message)| wrong(Some(span), message))?;
        let transform_lines = raw.transform.iter().map(|spec| line_of(text, spec.span().start)).collect();
        let settings = Settings {
            name: name.to_owned(),
            about: raw.about.trim().to_owned(),
            origin: raw.origin.trim().to_owned(),
            model: raw.model,
            rows: raw.rows,
            rate_per_s: raw.rate,
            arrivals: raw.arrivals,
            duration: raw.duration,
            clients: raw.clients,
            seed: raw.seed,
            keys: raw.keys,
            theta: raw.theta,
            rows_per_txn: raw.rows_per_txn.unwrap_or(match raw.model {
                Model::Orders => RowsPerTxn::Uniform { min: 1, max: 10 },
                Model::Keyed => RowsPerTxn::Fixed(1),
            }),
            value_bytes: raw.value_bytes,
            fields: raw.fields,
            scan_rows_max: raw.scan_rows_max,
            shares,
        };
        let transforms = raw.transform.into_iter().map(Spanned::into_inner).collect();
        Ok(Definition { settings, transforms, transform_lines, file: file.to_owned() })
    }

    /// An error at the transform with this place in the list.
    pub(super) fn transform_error(&self, place: usize, message: String) -> WorkloadError {
        transform_error(&self.file, &self.transform_lines, place, message)
    }
}

/// An error at the transform with this place in the list; `lines` are those where they begin.
pub(super) fn transform_error(file: &str, lines: &[usize], place: usize, message: String) -> WorkloadError {
    let line = lines.get(place).copied().unwrap_or(1);
    WorkloadError::Definition { file: file.to_owned(), line, message }
}

fn shares(
    model: Model,
    raw: &Spanned<BTreeMap<Spanned<String>, Spanned<f64>>>,
) -> Result<Shares, (Range<usize>, String)> {
    let mut shares = Shares::new();
    for (name, weight) in raw.as_ref() {
        let kind = model.kind(name.as_ref()).map_err(|message| (name.span(), message))?;
        let weight = quantity::share(*weight.as_ref()).map_err(|message| (weight.span(), message))?;
        shares.push((kind, weight));
    }
    // In the model's order, so that the file's order of keys changes nothing.
    shares.sort_by_key(|(kind, _)| model.kinds().iter().position(|other| other == kind));
    check_shares(shares).map_err(|message| (raw.span(), message))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
}

/// Adds the word that was meant to serde's message about an unknown one.
fn explain(message: &str) -> String {
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    match words.next() {
        Some(word) if unknown => match closest(word, words) {
            Some(meant) => format!("{message}; did you mean `{meant}`?"),
            None => message.to_owned(),
        },
        _ => message.to_owned(),
    }
}
