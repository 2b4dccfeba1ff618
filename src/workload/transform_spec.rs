//! What a definition says about turning rows of the record system into rows of the derived systems.
//!
//! Only the words are here; the module `transform` checks them against a table's schema and compiles them.
//! Every operation is row-local: it sees one row and nothing else.
//!
//! ```toml
//! [[transform]]
//! table = "customers"
//! rename_table = "customer"                                # optional
//! filter = { column = "city", op = "is not null" }         # optional: rows that do not pass are left out
//! columns = [                                              # columns not named here pass through unchanged
//!     { column = "email", hash = "sha256" },
//!     { column = "name", as = "full_name" },
//!     { column = "credit_cents", as = "credit", type = "decimal(12,2)", scaled = true },
//!     { column = "internal", drop = true },
//!     { as = "signup_year", derive = { year_of = "created_at" } },
//! ]
//! ```

use crate::model::ColumnType;
use serde::{Deserialize, Serialize};

/// How the rows of one table become rows of the derived systems. A table without one passes through unchanged.
///
/// The output has the source's columns in the source's order (without the dropped ones), then the derived columns
/// in the order in which they are written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformSpec {
    /// The source table's name.
    pub table: String,
    /// The table's name in the derived systems; the source's name if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rename_table: Option<String>,
    /// What happens to single columns; a source column is named at most once.
    #[serde(default)]
    pub columns: Vec<ColumnSpec>,
    /// Which rows are kept; all if not given. Sees the source's values, before any cast or hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<FilterSpec>,
}

/// What happens to one column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawColumn", into = "RawColumn")]
pub enum ColumnSpec {
    /// A source column stays, under its own or another name. Order of work: hash, then cast.
    Keep {
        /// The source column.
        column: String,
        /// Its new name (`as`); unchanged if not given.
        rename: Option<String>,
        /// Its hash instead of its value.
        hash: Option<HashKind>,
        /// The type it is cast to (`type`), with the meaning of an SQL cast: 1999 as `decimal(12,2)` is 1999.00.
        cast: Option<ColumnType>,
        /// For an integer cast to a decimal: the integer counts units of the last digit (cents), so 1999 as
        /// `decimal(12,2)` is 19.99.
        scaled: bool,
    },
    /// A source column is left out.
    Drop {
        /// The source column.
        column: String,
    },
    /// A new column after the source's, computed from the same row.
    Derive {
        /// The new column's name (`as`).
        name: String,
        /// How it is computed.
        from: Derive,
    },
}

/// A hash that stands for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashKind {
    /// SHA-256 of the value's UTF-8 text or bytes, as 64 lower-case hexadecimal digits (text). NULL stays NULL.
    Sha256,
}

/// A computed column. If a source value is NULL the result is NULL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Derive {
    /// The UTC calendar year of a date or timestamp column, as int64.
    YearOf(String),
    /// The length of a text column in characters (Unicode scalar values), or of a bytes column in bytes, as int64.
    Length(String),
    /// The product of two int64 columns, as int64; an overflow is an error, never a wrapped value.
    Product([String; 2]),
    /// The same value in every row: bool, int64, float64 or text, by the literal's own type.
    Constant(Literal),
}

/// A literal of the definition file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Literal {
    /// `true` or `false`
    Bool(bool),
    /// a whole number
    Int(i64),
    /// a number with a point
    Float(f64),
    /// text; stands for a date (`2025-01-31`) or a UTC timestamp (RFC 3339) where the column is one
    Text(String),
}

/// A condition on one column: `column op value`.
///
/// As in SQL, a comparison with NULL is not true, so it leaves the row out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawFilter", into = "RawFilter")]
pub struct FilterSpec {
    /// The source column.
    pub column: String,
    /// The condition.
    pub test: FilterTest,
}

/// What a filter asks of its column.
#[derive(Clone, Debug, PartialEq)]
pub enum FilterTest {
    /// `is null`
    IsNull,
    /// `is not null`
    IsNotNull,
    /// a comparison with a literal
    Compare(Comparison, Literal),
}

/// How a filter compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawColumn {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    column: Option<String>,
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    rename: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<HashKind>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    cast: Option<TypeName>,
    #[serde(default, skip_serializing_if = "is_false")]
    scaled: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    drop: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    derive: Option<Derive>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl TryFrom<RawColumn> for ColumnSpec {
    type Error = &'static str;

    fn try_from(raw: RawColumn) -> Result<ColumnSpec, &'static str> {
        let kept = raw.hash.is_some() || raw.cast.is_some() || raw.scaled;
        match raw {
            RawColumn { column: None, derive: Some(from), rename: Some(name), drop: false, .. } if !kept => {
                Ok(ColumnSpec::Derive { name, from })
            }
            RawColumn { derive: Some(_), .. } => Err("a derived column takes `as` and `derive` and nothing else"),
            RawColumn { column: None, .. } => Err("name the source column with `column`, or derive one with `derive`"),
            RawColumn { column: Some(column), drop: true, rename: None, .. } if !kept => {
                Ok(ColumnSpec::Drop { column })
            }
            RawColumn { drop: true, .. } => Err("a dropped column takes `column` and `drop` and nothing else"),
            RawColumn { scaled: true, cast: None, .. } => Err("`scaled` needs `type = \"decimal(p,s)\"`"),
            RawColumn { column: Some(column), rename, hash, cast, scaled, .. } => {
                Ok(ColumnSpec::Keep { column, rename, hash, cast: cast.map(|t| t.0), scaled })
            }
        }
    }
}

impl From<ColumnSpec> for RawColumn {
    fn from(spec: ColumnSpec) -> RawColumn {
        match spec {
            ColumnSpec::Keep { column, rename, hash, cast, scaled } => RawColumn {
                column: Some(column),
                rename,
                hash,
                cast: cast.map(TypeName),
                scaled,
                ..RawColumn::default()
            },
            ColumnSpec::Drop { column } => RawColumn { column: Some(column), drop: true, ..RawColumn::default() },
            ColumnSpec::Derive { name, from } => {
                RawColumn { rename: Some(name), derive: Some(from), ..RawColumn::default() }
            }
        }
    }
}

/// A column type as it is written in a definition: `int64`, `text`, `decimal(12,2)`, ...
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct TypeName(ColumnType);

impl From<TypeName> for String {
    fn from(name: TypeName) -> String {
        name.0.to_string()
    }
}

impl TryFrom<String> for TypeName {
    type Error = String;

    fn try_from(text: String) -> Result<TypeName, String> {
        parse_type(&text).map(TypeName).ok_or_else(|| {
            format!(
                "no type is called {text:?}; there are bool, int64, float64, decimal(p,s) with p 1 to 38 and s 0 to p, \
                 text, bytes, date, timestamp"
            )
        })
    }
}

fn parse_type(text: &str) -> Option<ColumnType> {
    Some(match text {
        "bool" => ColumnType::Bool,
        "int64" => ColumnType::Int64,
        "float64" => ColumnType::Float64,
        "text" => ColumnType::Text,
        "bytes" => ColumnType::Bytes,
        "date" => ColumnType::Date,
        "timestamp" => ColumnType::Timestamp,
        _ => {
            let (precision, scale) = text.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
            let precision: u8 = precision.trim().parse().ok()?;
            let scale: i8 = scale.trim().parse().ok()?;
            let fits = (1..=38).contains(&precision) && u8::try_from(scale).is_ok_and(|s| s <= precision);
            return fits.then_some(ColumnType::Decimal { precision, scale });
        }
    })
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFilter {
    column: String,
    op: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Literal>,
}

const COMPARISONS: [(&str, Comparison); 6] = [
    ("=", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    ("<=", Comparison::LessOrEqual),
    (">", Comparison::Greater),
    (">=", Comparison::GreaterOrEqual),
];

impl TryFrom<RawFilter> for FilterSpec {
    type Error = String;

    fn try_from(raw: RawFilter) -> Result<FilterSpec, String> {
        let comparison = COMPARISONS.iter().find(|(sign, _)| *sign == raw.op);
        let test = match (raw.op.as_str(), comparison, raw.value) {
            ("is null", _, None) => FilterTest::IsNull,
            ("is not null", _, None) => FilterTest::IsNotNull,
            ("is null" | "is not null", _, Some(_)) => return Err(format!("`{}` takes no `value`", raw.op)),
            (_, Some((_, comparison)), Some(value)) => FilterTest::Compare(*comparison, value),
            (_, Some(_), None) => return Err(format!("`{}` needs a `value`", raw.op)),
            _ => {
                let op = raw.op;
                return Err(format!("no filter is called {op:?}; there are =, !=, <, <=, >, >=, is null, is not null"));
            }
        };
        Ok(FilterSpec { column: raw.column, test })
    }
}

impl From<FilterSpec> for RawFilter {
    fn from(spec: FilterSpec) -> RawFilter {
        let (op, value) = match spec.test {
            FilterTest::IsNull => ("is null", None),
            FilterTest::IsNotNull => ("is not null", None),
            FilterTest::Compare(comparison, value) => (comparison.sign(), Some(value)),
        };
        RawFilter { column: spec.column, op: op.to_owned(), value }
    }
}

impl Comparison {
    /// The sign it is written with.
    pub fn sign(self) -> &'static str {
        COMPARISONS.iter().find(|(_, comparison)| *comparison == self).map_or("=", |(sign, _)| sign)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<TransformSpec, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn every_operation_is_read() {
        let spec = one(r#"
            table = "customers"
            rename_table = "customer"
            filter = { column = "id", op = ">=", value = 10 }
            columns = [
                { column = "email", hash = "sha256" },
                { column = "credit", as = "c", type = "decimal(12,2)", scaled = true },
                { column = "internal", drop = true },
                { as = "year", derive = { year_of = "created_at" } },
                { as = "worth", derive = { product = ["quantity", "price_cents"] } },
                { as = "region", derive = { constant = "eu" } },
                { as = "n", derive = { length = "email" } },
            ]"#)
        .unwrap();
        assert_eq!(
            spec.filter.as_ref().unwrap().test,
            FilterTest::Compare(Comparison::GreaterOrEqual, Literal::Int(10))
        );
        let decimal = ColumnType::Decimal { precision: 12, scale: 2 };
        let (column, rename) = ("credit".to_owned(), Some("c".to_owned()));
        assert_eq!(spec.columns[1], ColumnSpec::Keep { column, rename, hash: None, cast: Some(decimal), scaled: true });
        assert_eq!(spec.columns[2], ColumnSpec::Drop { column: "internal".into() });
        let worth = Derive::Product(["quantity".into(), "price_cents".into()]);
        assert_eq!(spec.columns[4], ColumnSpec::Derive { name: "worth".into(), from: worth });
        assert_eq!(toml::from_str::<TransformSpec>(&toml::to_string(&spec).unwrap()).unwrap(), spec);
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        for (text, part) in [
            ("columns = [{ column = 'a', derive = { length = 'b' } }]", "takes `as` and `derive`"),
            ("columns = [{ hash = 'sha256' }]", "name the source column"),
            ("columns = [{ column = 'a', drop = true, as = 'b' }]", "nothing else"),
            ("columns = [{ column = 'a', scaled = true }]", "needs `type"),
            ("columns = [{ column = 'a', type = 'decimal(39,2)' }]", "no type is called"),
            ("columns = [{ column = 'a', type = 'decimal(2,3)' }]", "no type is called"),
            ("columns = [{ column = 'a', hsh = 'sha256' }]", "unknown field"),
            ("filter = { column = 'a', op = '~', value = 1 }", "no filter is called"),
            ("filter = { column = 'a', op = 'is null', value = 1 }", "takes no `value`"),
            ("filter = { column = 'a', op = '<' }", "needs a `value`"),
        ] {
            let error = one(&format!("table = 't'\n{text}")).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
