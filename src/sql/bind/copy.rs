//! `COPY`: what is read or written, and the options checked as Postgres checks them.

use sqlparser::ast::Ident;

use crate::catalog::Object;
use crate::error::{Error, Result};
use crate::formats::copy::{Format, Header, Options};
use crate::sql::bind::bind_statement;
use crate::sql::bind::dml::target_table;
use crate::sql::bind::insert::bind_given;
use crate::sql::bind::names::{column_index, resolve_object};
use crate::sql::bind::provider::Provider;
use crate::sql::bound::{Bound, CopyFrom};
use crate::sql::options::nearest;
use crate::sql::parse::ast::{Copied, Copy, CopyOption, CopyValue};
use crate::sql::parse::grammar::folded;
use crate::sql::parse::parse;
use crate::types::Column;

/// The options there are.
const NAMES: [&str; 11] = [
    "format",
    "freeze",
    "delimiter",
    "null",
    "header",
    "quote",
    "escape",
    "force_quote",
    "force_not_null",
    "force_null",
    "encoding",
];

/// Binds `COPY ... TO STDOUT`.
pub fn bind_copy_to(provider: &Provider, copy: &Copy, text: &str) -> Result<Bound> {
    let source = match &copy.what {
        Copied::Statement(statement) => bind_statement(statement, text, provider)?,
        Copied::Table { name, columns } => {
            let object = resolve_object(name, provider.context)?;
            bind_rows_of(provider, &object, &chosen(&object, columns, provider)?)?
        }
    };
    let Some(columns) = source.columns() else {
        return Err(Error::unsupported("COPY query must have a RETURNING clause"));
    };
    if let Bound::Query(query) = &source
        && !query.parameters.is_empty()
    {
        return Err(Error::undefined_parameter("there is no parameter $1").hint("COPY takes no parameters."));
    }
    let options = options(&copy.options, columns, false)?;
    Ok(Bound::CopyTo { source: Box::new(source), options })
}

/// Binds `COPY t FROM STDIN`.
pub fn bind_copy_from(provider: &Provider, copy: &Copy) -> Result<CopyFrom> {
    let Copied::Table { name, columns } = &copy.what else {
        return Err(Error::syntax("COPY FROM takes the name of a table"));
    };
    let object = resolve_object(name, provider.context)?;
    let table = target_table(&object, "copy to")?;
    let targets = chosen(&object, columns, provider)?;
    let columns: Vec<Column> = targets.iter().map(|&target| table.columns[target].clone()).collect();
    let options = options(&copy.options, &columns, true)?;
    let insert = bind_given(provider, &object, table, &targets)?;
    Ok(CopyFrom { table: object.name.clone(), columns, insert, options })
}

/// The columns named, or all.
fn chosen(object: &Object, names: &[Ident], provider: &Provider) -> Result<Vec<usize>> {
    if names.is_empty() {
        return Ok((0..object.columns().len()).collect());
    }
    let mut chosen = Vec::new();
    for name in names {
        let at = |mut error: Error| {
            error.position = provider.text.and_then(|text| text.position(name.span));
            error
        };
        let index = column_index(object.columns(), name, &object.name).map_err(at)?;
        if chosen.contains(&index) {
            let message = format!("column \"{}\" specified more than once", folded(name));
            return Err(at(Error::duplicate_column(message)));
        }
        chosen.push(index);
    }
    Ok(chosen)
}

/// The query for these columns of a relation.
fn bind_rows_of(provider: &Provider, object: &Object, columns: &[usize]) -> Result<Bound> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let columns: Vec<String> = columns.iter().map(|&column| quoted(&object.columns()[column].name)).collect();
    let text = format!("SELECT {} FROM {}.{}", columns.join(", "), quoted(&object.schema), quoted(&object.name));
    let mut statements = parse(&text)?;
    let statement = statements.pop().ok_or_else(|| Error::internal("the query of a relation is empty"))?;
    bind_statement(&statement.ast, &text, provider)
}

fn options(given: &[CopyOption], columns: &[Column], from: bool) -> Result<Options> {
    for (index, option) in given.iter().enumerate() {
        if given[..index].iter().any(|earlier| earlier.name == option.name) {
            return Err(Error::syntax("conflicting or redundant options").at(option.position));
        }
    }
    let format = match given.iter().find(|option| option.name == "format") {
        None => Format::Text,
        Some(option) => match text(option)? {
            "text" => Format::Text,
            "csv" => Format::Csv,
            "binary" => Format::Binary,
            other => {
                return Err(Error::invalid_parameter(format!("COPY format \"{other}\" not recognized"))
                    .at(option.position)
                    .hint("The formats are text, csv and binary."));
            }
        },
    };
    let mut options = Options::new(format);
    let mut quote_alone = true;
    for option in given {
        refuse_misplaced(option, format, from)?;
        match option.name.as_str() {
            "format" | "freeze" => {}
            "delimiter" => options.delimiter = byte(option)?,
            "null" => options.null = text(option)?.to_string(),
            "header" => options.header = header(option, from)?,
            "quote" => options.quote = byte(option)?,
            "escape" => {
                options.escape = byte(option)?;
                quote_alone = false;
            }
            "force_quote" => options.force_quote = flags(option, columns)?,
            "force_not_null" => options.force_not_null = flags(option, columns)?,
            "force_null" => options.force_null = flags(option, columns)?,
            "encoding" => encoding(option)?,
            other => {
                let error = Error::syntax(format!("option \"{other}\" not recognized")).at(option.position);
                return Err(match nearest(other, NAMES) {
                    Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                    None => error.hint(format!("The options are {}.", NAMES.join(", "))),
                });
            }
        }
    }
    if quote_alone {
        options.escape = options.quote;
    }
    check(&options)?;
    Ok(options)
}

/// Refuses an option that says nothing for the format or the direction.
fn refuse_misplaced(option: &CopyOption, format: Format, from: bool) -> Result<()> {
    let name = option.name.to_uppercase().replace('_', " ");
    let csv_only = ["quote", "escape", "force_quote", "force_not_null", "force_null"];
    let message = match option.name.as_str() {
        "delimiter" | "null" if format == Format::Binary => format!("cannot specify {name} in BINARY mode"),
        "header" if format == Format::Binary => format!("cannot specify {name} in BINARY mode"),
        only if csv_only.contains(&only) && format != Format::Csv => format!("COPY {name} available only in CSV mode"),
        "force_quote" if from => format!("COPY {name} cannot be used with COPY FROM"),
        "force_not_null" | "force_null" if !from => format!("COPY {name} cannot be used with COPY TO"),
        _ => return Ok(()),
    };
    Err(Error::unsupported(message).at(option.position))
}

/// Refuses what could not be read again.
fn check(options: &Options) -> Result<()> {
    let (delimiter, null) = (options.delimiter, options.null.as_bytes());
    let is_csv = options.format == Format::Csv;
    let message = if matches!(delimiter, b'\n' | b'\r') {
        "COPY delimiter cannot be newline or carriage return".to_string()
    } else if null.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        "COPY null representation cannot use newline or carriage return".to_string()
    } else if !is_csv && (delimiter == b'\\' || delimiter == b'.' || delimiter.is_ascii_alphanumeric()) {
        format!("COPY delimiter cannot be \"{}\"", char::from(delimiter))
    } else if is_csv && delimiter == options.quote {
        "COPY delimiter and quote must be different".to_string()
    } else if options.format != Format::Binary && null.contains(&delimiter) {
        "COPY delimiter must not appear in the NULL specification".to_string()
    } else if is_csv && null.contains(&options.quote) {
        "CSV quote character must not appear in the NULL specification".to_string()
    } else {
        return Ok(());
    };
    Err(Error::invalid_parameter(message))
}

fn text(option: &CopyOption) -> Result<&str> {
    match &option.value {
        CopyValue::Text(text) => Ok(text),
        CopyValue::None | CopyValue::Columns(_) | CopyValue::All => {
            Err(Error::syntax(format!("{} requires a parameter", option.name)).at(option.position))
        }
    }
}

fn byte(option: &CopyOption) -> Result<u8> {
    match text(option)?.as_bytes() {
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => {
            let message = format!("COPY {} must be a single one-byte character", option.name);
            Err(Error::unsupported(message).at(option.position))
        }
    }
}

fn header(option: &CopyOption, from: bool) -> Result<Header> {
    let CopyValue::Text(value) = &option.value else { return Ok(Header::Yes) };
    match value.to_lowercase().as_str() {
        "true" | "on" | "1" => Ok(Header::Yes),
        "false" | "off" | "0" => Ok(Header::No),
        "match" if from => Ok(Header::Match),
        "match" => Err(Error::unsupported("cannot use \"match\" with HEADER in COPY TO").at(option.position)),
        _ => Err(Error::syntax("header requires a Boolean value or \"match\"").at(option.position)),
    }
}

fn encoding(option: &CopyOption) -> Result<()> {
    let name = text(option)?;
    if ["utf8", "utf-8", "unicode"].contains(&name.to_lowercase().as_str()) {
        return Ok(());
    }
    Err(Error::unsupported(format!("encoding \"{name}\" is not supported")).at(option.position).hint("Use UTF8."))
}

/// The flags of the columns named.
fn flags(option: &CopyOption, columns: &[Column]) -> Result<Vec<bool>> {
    let names = match &option.value {
        CopyValue::All => return Ok(vec![true; columns.len()]),
        CopyValue::Columns(names) => names,
        CopyValue::None | CopyValue::Text(_) => {
            let message = format!("argument to option \"{}\" must be a list of column names", option.name);
            return Err(Error::invalid_parameter(message).at(option.position));
        }
    };
    let mut flags = vec![false; columns.len()];
    for name in names {
        let Some(index) = columns.iter().position(|column| column.name == folded(name)) else {
            let what = option.name.to_uppercase().replace('_', " ");
            let message = format!("{what} column \"{}\" not referenced by COPY", folded(name));
            return Err(Error::invalid_column_reference(message).at(option.position));
        };
        flags[index] = true;
    }
    Ok(flags)
}
