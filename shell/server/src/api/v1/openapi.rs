//! The OpenAPI document, made of the table of routes and of the types.

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::query::MAX_PLACE;
use super::routes::{Is, Param, ROUTES, Route};
use super::types::Failed;

/// Gives the schema of something; those that it refers to are put into the map.
pub(super) type Schema = fn(&mut Map<String, Value>) -> Value;

const ABOUT: &str = "What operators see of global transactions and do about them. Any member answers; reads show \
    everything that was acknowledged before. See docs/v1-http.md.";

/// A reference to the schema of a type.
pub(super) fn of<T: ToSchema>(all: &mut Map<String, Value>) -> Value {
    let mut used = Vec::new();
    T::schemas(&mut used);
    used.push((T::name().into_owned(), T::schema()));
    for (name, schema) in used {
        all.insert(name, serde_json::to_value(schema).expect("a schema is JSON"));
    }
    json!({ "$ref": format!("#/components/schemas/{}", T::name()) })
}

/// Any object.
pub(super) fn anything(_: &mut Map<String, Value>) -> Value {
    json!({ "type": "object" })
}

/// The document.
pub(super) fn document() -> Value {
    let mut schemas = Map::new();
    let failed = of::<Failed>(&mut schemas);
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation(route, &mut schemas, &failed);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "quorate",
            "description": ABOUT,
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn operation(route: &Route, schemas: &mut Map<String, Value>, failed: &Value) -> Value {
    let mut parameters: Vec<Value> = route.params.iter().map(parameter).collect();
    if route.path.contains("{gid}") {
        parameters.insert(0, gid());
    }
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "parameters": parameters,
        "responses": responses(route, schemas, failed),
    });
    if !route.about.is_empty() {
        operation["description"] = route.about.into();
    }
    if let Some(body) = route.body {
        operation["requestBody"] = json!({ "required": true, "content": content(&body(schemas)) });
    }
    operation
}

fn gid() -> Value {
    json!({
        "name": "gid",
        "in": "path",
        "required": true,
        "description": "The transaction's name, percent-encoded.",
        "schema": { "type": "string", "minLength": 1, "maxLength": quorate_global_txn::limits::MAX_GID },
    })
}

fn parameter(param: &Param) -> Value {
    json!({
        "name": param.name,
        "in": "query",
        "required": false,
        "description": param.about,
        "schema": param.is.schema(),
    })
}

impl Is {
    fn schema(self) -> Value {
        match self {
            Self::OneOf(words) => json!({ "type": "string", "enum": words }),
            Self::Truth => json!({ "type": "boolean" }),
            Self::Count { most, default } => {
                json!({ "type": "integer", "minimum": 1, "maximum": most, "default": default })
            }
            Self::Number => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
            Self::Place => json!({
                "type": "string",
                "pattern": "^([0-9a-f][0-9a-f])+$",
                "maxLength": MAX_PLACE,
            }),
        }
    }
}

fn responses(route: &Route, schemas: &mut Map<String, Value>, failed: &Value) -> Value {
    let mut all = Map::new();
    let answer = (route.answer)(schemas);
    all.insert("200".to_owned(), response("Done.", &answer));
    for (status, about, applies) in [
        ("400", "A parameter or the body is not as it should be.", true),
        ("403", "Sent by a web page of another site.", true),
        ("404", "There is no such transaction.", route.path.contains("{gid}")),
        ("408", "The body did not come in time.", route.body.is_some()),
        ("409", "Not in this state. Nothing was changed.", route.body.is_some()),
        ("413", "The body is too long.", route.body.is_some()),
        ("415", "The body is not of type application/json.", route.body.is_some()),
        (
            "503",
            "Nobody can answer now, or (`unknown_outcome`) nobody knows whether it was done.",
            true,
        ),
        ("507", "The store is full. Nothing was changed.", route.body.is_some()),
    ] {
        if applies {
            all.insert(status.to_owned(), response(about, failed));
        }
    }
    Value::Object(all)
}

fn response(about: &str, schema: &Value) -> Value {
    json!({ "description": about, "content": content(schema) })
}

fn content(schema: &Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn the_document_is_whole() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > ROUTES.len());
        for reference in found {
            let name = reference.strip_prefix("#/components/schemas/").unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
        let paths = document["paths"].as_object().unwrap();
        assert!(paths["/v1/txns/{gid}/skip"]["post"]["requestBody"].is_object());
        assert_eq!(
            paths.values().map(|path| path.as_object().unwrap().len()).sum::<usize>(),
            ROUTES.len()
        );
    }

    #[test]
    fn types_have_their_bounds_and_no_null() {
        let document = document();
        let skip = &document["components"]["schemas"]["Skip"];
        assert_eq!(skip["additionalProperties"], false, "{skip}");
        assert_eq!(skip["properties"]["by"]["maxLength"], 256, "{skip}");
        assert_eq!(skip["required"].as_array().unwrap().len(), 4, "{skip}");
        let summary = &document["components"]["schemas"]["Summary"];
        assert_eq!(
            summary["properties"]["ended"],
            json!({
                "type": "string", "format": "date-time", "description": "When it ended."
            })
        );
        assert!(!document.to_string().contains("\"null\""), "fields are left out, never null");
    }
}
