//! Sizes of memory as people write them.

/// Bytes: `512MB`, `4GB`, `1.5GiB`. Units are powers of 1024, as in Postgres.
pub(super) fn parse(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        other => return Err(format!("unknown unit \"{other}\"; write it as 512MB or 4GB")),
    };
    let number: f64 = number.parse().map_err(|_| "write it as 512MB or 4GB".to_string())?;
    let bytes = number * f64::from(2u32.pow(10)).powi(shift / 10);
    if bytes < LEAST as f64 {
        return Err("at least 16MB are needed".to_string());
    }
    Ok(bytes as usize)
}

/// Less than this does not hold even an empty database.
const LEAST: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse("4GB"), Ok(4 << 30));
        assert_eq!(parse("1.5 GiB"), Ok(3 << 29));
        assert_eq!(parse("67108864"), Ok(64 << 20));
        assert!(parse("4 parsec").is_err());
        assert!(parse("GB").is_err());
        assert!(parse("1MB").is_err());
    }
}
