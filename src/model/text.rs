//! Values in PostgreSQL's text form.
