//! `muster status`.

use std::sync::Arc;

use serde_json::Value;

use super::output;
use crate::app::App;
use crate::service::{self, status};

pub(super) async fn run(app: &Arc<App>) -> service::Result<Value> {
    serde_json::to_value(status::read(app).await?).map_err(service::Error::internal)
}

/// Whether anything of it is an alarm.
pub(super) fn has_alarm(answer: &Value) -> bool {
    match answer {
        Value::Object(fields) => fields.iter().any(|(name, value)| name == "alarm" && !value.is_null() || has_alarm(value)),
        Value::Array(rows) => rows.iter().any(has_alarm),
        _ => false,
    }
}

/// The status without what there is nothing of, and without what only `muster doctor` compares.
pub(super) fn render(answer: &Value, width: Option<usize>) -> String {
    let mut answer = answer.clone();
    if let Some(fields) = answer.as_object_mut() {
        fields.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|rows| !rows.is_empty()));
        if let Some(authority) = fields.get_mut("authority").and_then(Value::as_object_mut) {
            authority.remove("name_by_configuration");
        }
    }
    output::render(&answer, width)
}
