mod bulk;
mod folder;
mod model;
mod support;
mod values;
