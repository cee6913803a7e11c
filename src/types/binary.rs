//! Values as bytes: Postgres' binary wire form, bit for bit.
