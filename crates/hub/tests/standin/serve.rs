//! The stand-in's answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};

use super::{Fault, LARGE, Model, Seen, State, git_sha1, sha256, sum};

type Shared = Arc<Mutex<State>>;

pub fn app(state: Shared, host: &'static str) -> axum::Router {
    axum::Router::new().fallback(move |request: Request| answer(state.clone(), host, request))
}

async fn answer(state: Shared, host: &'static str, request: Request) -> Response {
    let text =
        |name: HeaderName| request.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let (range, token) = (text(header::RANGE), text(header::AUTHORIZATION));
    let path = decode(request.uri().path());
    let query = request.uri().query().map(str::to_owned).unwrap_or_default();
    let mut state = state.lock().unwrap();
    state.seen.push(Seen { host, path: path.clone(), range: range.clone(), token: token.clone() });
    let fault = take_fault(&mut state, &path);
    if let Some(Fault::Status(status, headers)) = &fault {
        return refuse(*status, headers);
    }
    let token = token.and_then(|t| t.strip_prefix("Bearer ").map(str::to_owned));
    let ask = Ask { state: &state, query, token, range, fault };
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (host, parts.as_slice()) {
        ("hub", ["api", "models"]) => ask.search(),
        ("hub", ["api", "models", org, model, rest @ ..]) => ask.model(&format!("{org}/{model}"), rest),
        ("hub", [org, model, "resolve", revision, file @ ..]) => {
            ask.resolve(&format!("{org}/{model}"), revision, &file.join("/"))
        }
        ("storage", ["cdn", sha]) => ask.storage(sha),
        _ => refuse(404, &[]),
    }
}

fn take_fault(state: &mut State, path: &str) -> Option<Fault> {
    let found =
        state.faults.iter_mut().find(|(part, times, _)| *times > 0 && path.contains(part.as_str()))?;
    found.1 -= 1;
    Some(found.2.clone())
}

struct Ask<'a> {
    state: &'a State,
    query: String,
    token: Option<String>,
    range: Option<String>,
    fault: Option<Fault>,
}

impl Ask<'_> {
    fn parameter(&self, name: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(decode)
    }

    /// Matching models, a page of them.
    fn search(&self) -> Response {
        let words = self.parameter("search").unwrap_or_default().to_lowercase();
        let limit: usize = self.parameter("limit").and_then(|l| l.parse().ok()).unwrap_or(1000);
        let matches = |(name, model): &(&String, &Model)| {
            words.split(['+', ' ']).all(|word| name.to_lowercase().contains(word))
                && self.parameter("author").is_none_or(|author| name.starts_with(&format!("{author}/")))
                && self.parameter("filter").is_none_or(|tag| model.tags.contains(&tag))
        };
        let mut found: Vec<_> = self.state.models.iter().filter(matches).collect();
        found.sort_by_key(|(_, model)| std::cmp::Reverse(model.downloads));
        let show = |(name, model): &(&String, &Model)| {
            let gated = if model.gated.is_some() { json!("manual") } else { json!(false) };
            json!({"_id": "x", "id": name, "downloads": model.downloads, "likes": 3, "tags": model.tags, "gated": gated,
                   "private": false, "lastModified": "2026-01-02T03:04:05.000Z", "pipeline_tag": "text-generation",
                   "library_name": "transformers"})
        };
        let all: Vec<Value> = found.iter().map(show).collect();
        self.page(&all, "/api/models", limit.min(self.state.page))
    }

    /// The part of a list that `cursor` names, with a link to the next.
    fn page(&self, all: &[Value], path: &str, size: usize) -> Response {
        let start: usize = self.parameter("cursor").and_then(|c| c.parse().ok()).unwrap_or(0);
        let end = (start + size).min(all.len());
        let mut response = axum::Json(&all[start.min(end)..end]).into_response();
        if end < all.len() {
            let others: Vec<&str> =
                self.query.split('&').filter(|pair| !pair.starts_with("cursor=")).collect();
            let link = format!("<{}{path}?{}&cursor={end}>; rel=\"next\"", self.state.hub, others.join("&"));
            response.headers_mut().insert(header::LINK, HeaderValue::from_str(&link).unwrap());
        }
        response
    }

    fn find(&self, name: &str, revision: &str, gate: bool) -> Result<&Model, Box<Response>> {
        let no = |status, name, value: &str| Box::new(refuse(status, &[(name, value.to_owned())]));
        let missing = || no(404, "x-error-code", "RepoNotFound");
        let model = self.state.models.get(name).ok_or_else(missing)?;
        if model.private.is_some() && model.private != self.token {
            return Err(no(401, "x-error-message", "Invalid username or password."));
        }
        if gate && model.gated.is_some() && model.gated != self.token {
            let status = if self.token.is_some() { 403 } else { 401 };
            return Err(no(status, "x-error-code", "GatedRepo"));
        }
        if revision != "main" && revision != model.commit && revision != "refs/pr/1" {
            return Err(no(404, "x-error-code", "RevisionNotFound"));
        }
        Ok(model)
    }

    fn model(&self, name: &str, rest: &[&str]) -> Response {
        if let Some(new) = self.state.renamed.get(name) {
            let rest: String = rest.iter().map(|part| format!("/{part}")).collect();
            let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
            return redirect(307, &format!("/api/models/{new}{rest}{query}"), &[]);
        }
        let (kind, revision) = match rest {
            [] => ("revision", "main".to_owned()),
            [kind, revision @ ..] => (*kind, revision.join("/")),
        };
        let model = match self.find(name, &revision, false) {
            Ok(model) => model,
            Err(response) => return *response,
        };
        if kind == "tree" {
            let all: Vec<Value> =
                model.files.iter().map(|(path, body)| tree_entry(model, path, body)).collect();
            return self.page(&all, &format!("/api/models/{name}/tree/{revision}"), self.state.page);
        }
        let siblings: Vec<Value> = model.files.iter().map(|(path, _)| json!({"rfilename": path})).collect();
        axum::Json(json!({"_id": "x", "id": name, "modelId": name, "sha": model.commit, "private": false, "tags": model.tags,
            "gated": model.gated.is_some(), "downloads": 1, "likes": 1, "siblings": siblings}))
        .into_response()
    }

    fn resolve(&self, name: &str, revision: &str, path: &str) -> Response {
        if let Some(new) = self.state.renamed.get(name) {
            return redirect(307, &format!("/{new}/resolve/{revision}/{path}"), &[]);
        }
        let model = match self.find(name, revision, true) {
            Ok(model) => model,
            Err(response) => return *response,
        };
        let Some(body) = model.file(path) else {
            return refuse(404, &[("x-error-code", "EntryNotFound".into())]);
        };
        let mut headers =
            vec![("x-repo-commit", model.commit.clone()), ("etag", format!("\"{}\"", sum(body)))];
        if body.len() < LARGE {
            return self.content(body, &headers);
        }
        headers.push(("x-linked-etag", format!("\"{}\"", sum(body))));
        headers.push(("x-linked-size", body.len().to_string()));
        if let Some(Fault::Header(name, value)) = &self.fault {
            headers.retain(|(other, _)| other != name);
            headers.push((name, value.clone()));
        }
        redirect(302, &format!("{}/cdn/{}", self.state.storage, sha256(body)), &headers)
    }

    fn storage(&self, sha: &str) -> Response {
        let bodies = self.state.models.values().flat_map(|model| model.files.iter().map(|(_, body)| body));
        match bodies.into_iter().find(|body| sha256(body) == sha) {
            Some(body) => self.content(body, &[("etag", "\"storage-etag\"".into())]),
            None => refuse(403, &[]),
        }
    }

    /// The bytes asked for, or what the fault makes of them.
    fn content(&self, body: &[u8], headers: &[(&'static str, String)]) -> Response {
        let fault = self.fault.clone();
        let from = self
            .range
            .as_ref()
            .and_then(|r| r.strip_prefix("bytes=")?.split('-').next()?.parse::<usize>().ok());
        let from = from.filter(|_| !matches!(fault, Some(Fault::NoRange)));
        if from.is_some_and(|from| from >= body.len()) {
            return refuse(416, &[("content-range", format!("bytes */{}", body.len()))]);
        }
        let mut part = body[from.unwrap_or(0)..].to_vec();
        let mut response = Response::new(Body::empty());
        let all = [("content-length", part.len().to_string()), ("accept-ranges", "bytes".into())];
        put(response.headers_mut(), headers);
        put(response.headers_mut(), &all);
        if let Some(from) = from {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
            put(response.headers_mut(), &[("content-range", range)]);
        }
        *response.body_mut() = match fault {
            Some(Fault::Cut(after)) => {
                broken(part[..after.min(part.len())].to_vec(), Duration::from_millis(50))
            }
            Some(Fault::Stall(after)) => {
                broken(part[..after.min(part.len())].to_vec(), Duration::from_secs(600))
            }
            Some(Fault::Corrupt) => {
                let last = part.len() - 1;
                part[last] ^= 1;
                Body::from(part)
            }
            Some(Fault::Long) => {
                response.headers_mut().remove(header::CONTENT_LENGTH);
                part.extend_from_slice(b"more than was promised");
                Body::from_stream(stream::iter([Ok::<_, std::io::Error>(Bytes::from(part))]))
            }
            _ => Body::from(part),
        };
        response
    }
}

/// Some bytes, a pause, and then the end of the connection.
fn broken(bytes: Vec<u8>, pause: Duration) -> Body {
    Body::from_stream(stream::unfold(Some(bytes), move |state| async move {
        match state {
            Some(bytes) if !bytes.is_empty() => Some((Ok(Bytes::from(bytes)), Some(Vec::new()))),
            Some(_) => {
                tokio::time::sleep(pause).await;
                Some((Err(std::io::Error::other("cut")), None))
            }
            None => None,
        }
    }))
}

fn tree_entry(model: &Model, path: &str, body: &[u8]) -> Value {
    let lie = model.size_lie.as_ref().filter(|(name, _)| name == path).map(|(_, size)| *size);
    let size = lie.unwrap_or(body.len() as u64);
    let mut entry = json!({"type": "file", "path": path, "size": size});
    if model.sums_hidden {
        return entry;
    }
    // The oid of an LFS file is that of its pointer, which nobody needs.
    entry["oid"] = json!(git_sha1(body));
    if body.len() >= LARGE {
        entry["lfs"] = json!({"oid": sha256(body), "size": size, "pointerSize": 134});
    }
    entry
}

fn refuse(status: u16, headers: &[(&'static str, String)]) -> Response {
    let mut response = (StatusCode::from_u16(status).unwrap(), "{\"error\":\"refused\"}").into_response();
    put(response.headers_mut(), headers);
    response
}

fn redirect(status: u16, to: &str, headers: &[(&'static str, String)]) -> Response {
    let mut response = refuse(status, headers);
    put(response.headers_mut(), &[("location", to.to_owned())]);
    response
}

fn put(headers: &mut HeaderMap, all: &[(&'static str, String)]) {
    for (name, value) in all {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        let hex =
            text.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok()).filter(|_| bytes[i] == b'%');
        out.push(hex.unwrap_or(bytes[i]));
        i += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}
