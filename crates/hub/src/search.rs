//! Finding models on the Hub by words.

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::client::{Client, next_page};
use crate::config::Config;
use crate::error::{Error, Kind, Result};

/// The Hub gives at most this many models on one page.
const PAGE: usize = 100;
/// The most results one search may ask for.
pub const MOST: usize = 1000;

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Words of the model's name.
    pub text: String,
    /// Only models of this user or organisation.
    pub author: Option<String>,
    /// The order; the Hub's own is by downloads.
    pub sort: Option<Sort>,
    /// The most results wanted, 1 to [`MOST`].
    pub limit: usize,
    /// Only models in this format.
    pub format: Option<Format>,
}

/// Orders of results, each descending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Downloads in the last 30 days.
    Downloads,
    /// Likes.
    Likes,
    /// Date of the last change.
    Modified,
    /// Date of creation.
    Created,
    /// What is talked about now.
    Trending,
}

impl Sort {
    /// Every order with the word a person writes and the one the Hub expects.
    pub const TABLE: [(Sort, &str, &str); 5] = [
        (Sort::Downloads, "downloads", "downloads"),
        (Sort::Likes, "likes", "likes"),
        (Sort::Modified, "modified", "lastModified"),
        (Sort::Created, "created", "createdAt"),
        (Sort::Trending, "trending", "trendingScore"),
    ];

    fn parameter(self) -> &'static str {
        Self::TABLE.iter().find(|row| row.0 == self).map_or("downloads", |row| row.2)
    }
}

/// Formats of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Hugging Face's, with config.json beside it.
    Safetensors,
    /// ggml's, all in one file.
    Gguf,
}

impl Format {
    /// The Hub's tag for it, also the word a person writes.
    pub fn name(self) -> &'static str {
        match self {
            Format::Safetensors => "safetensors",
            Format::Gguf => "gguf",
        }
    }
}

/// One model found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// `ORG/MODEL`.
    pub id: String,
    /// Downloads in the last 30 days.
    #[serde(default)]
    pub downloads: u64,
    /// Likes.
    #[serde(default)]
    pub likes: u64,
    /// ISO 8601, empty where the Hub does not say.
    #[serde(default, rename(deserialize = "lastModified"))]
    pub last_modified: String,
    /// `transformers`, say.
    #[serde(default)]
    pub library_name: Option<String>,
    /// `text-generation`, say.
    #[serde(default)]
    pub pipeline_tag: Option<String>,
    /// Whether access must be asked for.
    #[serde(default, deserialize_with = "gated")]
    pub gated: bool,
    /// Whether only some accounts see it.
    #[serde(default)]
    pub private: bool,
    /// Free tags: formats, licences, languages.
    #[serde(default)]
    pub tags: Vec<String>,
}

impl Found {
    /// The formats that the tags name.
    pub fn formats(&self) -> Vec<Format> {
        let has = |format: &Format| self.tags.iter().any(|tag| tag == format.name());
        [Format::Safetensors, Format::Gguf].into_iter().filter(has).collect()
    }
}

/// `false`, `"auto"` or `"manual"`.
pub(crate) fn gated<'de, D: serde::Deserializer<'de>>(input: D) -> std::result::Result<bool, D::Error> {
    Ok(match serde_json::Value::deserialize(input)? {
        serde_json::Value::Bool(gated) => gated,
        serde_json::Value::String(text) => text != "false",
        _ => false,
    })
}

/// Models that match `query`, in its order; page by page until its limit.
pub fn search(config: &Config, query: &Query) -> Result<Vec<Found>> {
    if query.limit == 0 || query.limit > MOST {
        let text = format!("--limit {} is out of range: 1 to {MOST} results can be asked for", query.limit);
        return Err(Error::new(Kind::Usage, text));
    }
    let client = Client::new(config, "search")?;
    crate::block_on(find(&client, query))
}

async fn find(client: &Client, query: &Query) -> Result<Vec<Found>> {
    let mut page = Some(address(client, query));
    let mut found: Vec<Found> = Vec::new();
    while let Some(url) = page {
        let (mut models, headers): (Vec<Found>, _) = client.json(&url, "search").await?;
        let empty = models.is_empty();
        found.append(&mut models);
        // An empty page that names a next one would go on for ever.
        let more = found.len() < query.limit && !empty;
        page = next_page(&headers, &url).filter(|next| more && client.is_home(next));
    }
    found.truncate(query.limit);
    Ok(found)
}

fn address(client: &Client, query: &Query) -> Url {
    let mut url = client.url(["api", "models"]);
    let mut pairs = url.query_pairs_mut();
    pairs.append_pair("search", query.text.trim());
    if let Some(author) = &query.author {
        pairs.append_pair("author", author);
    }
    pairs.append_pair("sort", query.sort.unwrap_or(Sort::Downloads).parameter());
    pairs.append_pair("direction", "-1");
    pairs.append_pair("limit", &query.limit.min(PAGE).to_string());
    if let Some(format) = query.format {
        pairs.append_pair("filter", format.name());
    }
    for field in
        ["downloads", "likes", "lastModified", "tags", "gated", "private", "pipeline_tag", "library_name"]
    {
        pairs.append_pair("expand", field);
    }
    drop(pairs);
    url
}
