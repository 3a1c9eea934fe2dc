//! One request to the Hub: redirects, the token, waiting and trying again.
//!
//! Redirects are followed here rather than by reqwest, for three reasons: the Hub's own answer (before
//! it points to the storage host) carries the checksum, the token must not go to any other host, and
//! an `https` address must not turn into an `http` one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use reqwest::header::{self, HeaderMap};
use reqwest::{Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::error::{Error, Kind, Result};

/// No page of the Hub is near this long; a longer answer is not read to its end.
const LONGEST_PAGE: usize = 64 << 20;
const MOST_HOPS: usize = 10;

/// A connection to one Hub with one set of settings.
pub(crate) struct Client {
    http: reqwest::Client,
    pub(crate) config: Config,
    endpoint: Url,
    /// Whether any answer ever came: without one there may be no network at all, and patience is idle.
    reached: AtomicBool,
}

/// Why a request failed, and whether asking again may help.
pub(crate) enum Failure {
    /// Asking again gives the same.
    Final(Error),
    /// The same request may succeed later, not before `after` if the server said so.
    Again { after: Option<Duration>, error: Error },
}

/// A successful answer and what the Hub's own host said about the file on the way to it.
pub(crate) struct Answer {
    pub response: Response,
    /// `X-Linked-Etag`, else `ETag` of the endpoint's answer, without quotes.
    pub etag: Option<String>,
    /// `X-Linked-Size`.
    pub linked_size: Option<u64>,
}

impl Client {
    /// A client for `config`; an error where it says to stay offline.
    pub(crate) fn new(config: &Config, purpose: &str) -> Result<Client> {
        if config.offline {
            return Err(Error::new(
                Kind::Offline,
                format!("{purpose} needs the network, and HF_HUB_OFFLINE is set; unset it to go on"),
            ));
        }
        let endpoint = parse_endpoint(&config.endpoint)?;
        // A provider that the program installed before is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .user_agent(concat!("influence/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(config.connect_timeout)
            .read_timeout(config.stall_timeout);
        // A proxy is for the way out, never for a Hub on this machine; plain http there needs no roots either.
        let builder = if is_loopback(&endpoint) { builder.no_proxy() } else { builder };
        let plain = is_loopback(&endpoint) && endpoint.scheme() == "http";
        let builder = if plain { builder.tls_certs_only([]) } else { builder };
        let http = builder.build().map_err(|e| {
            let hint =
                "install the system's root certificates (ca-certificates) or name a file with SSL_CERT_FILE";
            Error::new(Kind::Other, format!("cannot set up TLS: {}; {hint}", causes(&e)))
        })?;
        Ok(Client { http, config: config.clone(), endpoint, reached: AtomicBool::new(false) })
    }

    /// The endpoint with `parts` as further path segments, percent-encoded.
    pub(crate) fn url<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(parts);
        }
        url
    }

    /// Whether `url` is on the Hub itself, the only host that may see the token.
    pub(crate) fn is_home(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }

    /// A JSON answer and its headers; tried again as the settings say. `what` is for messages.
    pub(crate) async fn json<T: DeserializeOwned>(&self, url: &Url, what: &str) -> Result<(T, HeaderMap)> {
        let mut tries = 0;
        loop {
            match self.page(url, what).await {
                Ok((headers, body)) => return parse(&body, what, &self.config).map(|value| (value, headers)),
                Err(failure) => self.wait(failure, &mut tries).await?,
            }
        }
    }

    async fn page(&self, url: &Url, what: &str) -> std::result::Result<(HeaderMap, Vec<u8>), Failure> {
        let mut response = self.get(url, None, what).await?.response;
        let headers = response.headers().clone();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.broken(&e, what))? {
            body.extend_from_slice(&chunk);
            if body.len() > LONGEST_PAGE {
                let text = format!("{what}: the answer is longer than {} MiB", LONGEST_PAGE >> 20);
                return Err(Failure::Final(Error::new(Kind::Hostile, text)));
            }
        }
        Ok((headers, body))
    }

    /// One GET from byte `from` on, following redirects; anything but success is a `Failure`.
    pub(crate) async fn get(
        &self,
        url: &Url,
        from: Option<u64>,
        what: &str,
    ) -> std::result::Result<Answer, Failure> {
        let (mut url, mut home) = (url.clone(), true);
        let (mut etag, mut linked_size) = (None, None);
        for _ in 0..MOST_HOPS {
            home &= self.is_home(&url);
            let response = self.send(&url, from, home, what).await?;
            if home {
                etag = linked_etag(response.headers()).or(etag);
                linked_size = number(response.headers(), "x-linked-size").or(linked_size);
            }
            match next_hop(&response, &url, what).map_err(Failure::Final)? {
                Some(next) => url = next,
                None if response.status().is_success() => return Ok(Answer { response, etag, linked_size }),
                None => return Err(self.refused(&response, what)),
            }
        }
        let text = format!("{what}: more than {MOST_HOPS} redirects; the last was to {url}");
        Err(Failure::Final(Error::new(Kind::Hostile, text)))
    }

    async fn send(
        &self,
        url: &Url,
        from: Option<u64>,
        home: bool,
        what: &str,
    ) -> std::result::Result<Response, Failure> {
        let mut request = self.http.get(url.clone()).header(header::ACCEPT_ENCODING, "identity");
        if let (true, Some(token)) = (home, &self.config.token) {
            request = request.header(header::AUTHORIZATION, token.header().map_err(Failure::Final)?);
        }
        if let Some(from) = from {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let response = request.send().await.map_err(|e| self.broken(&e, what))?;
        self.reached.store(true, Ordering::Relaxed);
        Ok(response)
    }

    /// Sleeps before the next try, or gives the error back when there is none.
    pub(crate) async fn wait(&self, failure: Failure, tries: &mut u32) -> Result<()> {
        let (after, error) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Again { after, error } => (after, error),
        };
        let most = if self.reached.load(Ordering::Relaxed) {
            self.config.retries
        } else {
            self.config.retries.min(1)
        };
        if *tries >= most || after.is_some_and(|after| after > self.config.longest_wait) {
            return Err(error);
        }
        let backoff = self.config.backoff.saturating_mul(1 << (*tries).min(4));
        *tries += 1;
        tokio::time::sleep(after.unwrap_or(backoff).max(backoff)).await;
        Ok(())
    }

    /// A request that got no whole answer.
    pub(crate) fn broken(&self, error: &reqwest::Error, what: &str) -> Failure {
        let host = &self.config.endpoint;
        let cause = causes(error);
        if cause.contains("certificate") {
            let hint = "a proxy in between, a wrong clock, or missing root certificates (SSL_CERT_FILE names a file)";
            let text = format!("{what}: the certificate of {host} is not trusted ({cause}): {hint}");
            return Failure::Final(Error::new(Kind::Other, text));
        }
        let text = if error.is_connect() {
            let hint = "check the network (and HF_ENDPOINT, HTTPS_PROXY if set); models already here work without it";
            format!("{what}: {host} cannot be reached ({cause}); {hint}")
        } else if error.is_timeout() {
            let seconds = self.config.stall_timeout.as_secs_f32();
            format!("{what}: nothing came from {host} for {seconds} s; try again to go on from here")
        } else {
            format!("{what}: the connection was cut ({cause}); try again to go on from here")
        };
        Failure::Again { after: None, error: Error::new(Kind::Offline, text) }
    }

    /// An answer that is neither success nor redirect.
    fn refused(&self, response: &Response, what: &str) -> Failure {
        let (status, headers) = (response.status(), response.headers());
        let said =
            text(headers, "x-error-message").map_or(String::new(), |said| format!(" (the Hub says: {said})"));
        let code = text(headers, "x-error-code").unwrap_or_default();
        let missing = |text: String| Failure::Final(Error::new(Kind::NotFound, text));
        match (status.as_u16(), code.as_str()) {
            (_, "RevisionNotFound") => missing(format!("{what}: the model has no such revision{said}")),
            (_, "EntryNotFound") => missing(format!("{what}: the model has no such file{said}")),
            (_, "RepoNotFound") | (404 | 410, _) => missing(format!(
                "{what}: not found{said}. Check the spelling (`influence search WORDS`); if it is private, set \
                 HF_TOKEN to a token that may read it"
            )),
            (401 | 403 | 451, _) => Failure::Final(Error::new(Kind::AccessDenied, self.denied(what, &said))),
            (429, _) => self.limited(headers, what),
            (408 | 425 | 500.., _) => {
                let error = Error::new(
                    Kind::Other,
                    format!("{what}: the Hub is in trouble, it answered {status}{said}"),
                );
                Failure::Again { after: retry_after(headers), error }
            }
            _ => Failure::Final(Error::new(Kind::Other, format!("{what}: unexpected answer {status}{said}"))),
        }
    }

    fn denied(&self, what: &str, said: &str) -> String {
        let page = &self.config.endpoint;
        let token = match self.config.token {
            Some(_) => {
                "check that the account of your token has been given access, and that the token is still valid"
            }
            None => "then set HF_TOKEN to a token of your account",
        };
        format!(
            "{what}: access denied{said}. The model is gated or private: open its page below {page} in a browser, sign \
             in and ask for access; {token} (tokens are made at {page}/settings/tokens)"
        )
    }

    fn limited(&self, headers: &HeaderMap, what: &str) -> Failure {
        let after = retry_after(headers);
        let when = after.map_or("later".to_owned(), |after| format!("in {} s", after.as_secs()));
        let hint =
            if self.config.token.is_none() { "; signed in (HF_TOKEN) the limits are higher" } else { "" };
        let text = format!("{what}: too many requests (429), try again {when}{hint}");
        Failure::Again { after, error: Error::new(Kind::RateLimited, text) }
    }
}

fn parse_endpoint(text: &str) -> Result<Url> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(Error::new(
            Kind::Usage,
            format!("HF_ENDPOINT is {text:?}, expected an address such as https://huggingface.co"),
        )),
    }
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| ["localhost", "127.0.0.1", "[::1]"].contains(&host))
}

fn parse<T: DeserializeOwned>(body: &[u8], what: &str, config: &Config) -> Result<T> {
    serde_json::from_slice(body).map_err(|e| {
        let host = &config.endpoint;
        Error::new(
            Kind::Other,
            format!("{what}: the answer of {host} is not what a Hub says ({e}); is it one?"),
        )
    })
}

/// Where a redirect leads, `None` for any other answer.
fn next_hop(response: &Response, from: &Url, what: &str) -> Result<Option<Url>> {
    let moved = [301, 302, 303, 307, 308].map(|code| StatusCode::from_u16(code).ok());
    if !moved.contains(&Some(response.status())) {
        return Ok(None);
    }
    let bad = |why: &str| Error::new(Kind::Hostile, format!("{what}: {from} redirects {why}"));
    let to = text(response.headers(), "location").ok_or_else(|| bad("to nowhere"))?;
    let next = from.join(&to).map_err(|_| bad(&format!("to {to:?}, which is no address")))?;
    if !(next.scheme() == "https" || (next.scheme() == "http" && from.scheme() == "http")) {
        return Err(bad(&format!("from an encrypted address to {next}; not followed")));
    }
    Ok(Some(next))
}

/// The next page of a list, from `Link: <...>; rel="next"`.
pub(crate) fn next_page(headers: &HeaderMap, from: &Url) -> Option<Url> {
    let links = headers.get(header::LINK)?.to_str().ok()?;
    let link = links.split(',').find(|link| link.contains("rel=\"next\"") || link.contains("rel=next"))?;
    let start = link.find('<')? + 1;
    let end = start + link[start..].find('>')?;
    from.join(&link[start..end]).ok()
}

fn linked_etag(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"))?;
    let tag = tag.strip_prefix("W/").unwrap_or(&tag).trim_matches('"');
    (!tag.is_empty()).then(|| tag.to_owned())
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

pub(crate) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

/// `Retry-After` in seconds or as a date, else the reset time of the Hub's `RateLimit` header.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    if let Some(value) = text(headers, "retry-after") {
        if let Ok(seconds) = value.trim().parse() {
            return Some(Duration::from_secs(seconds));
        }
        let date = httpdate::parse_http_date(value.trim()).ok()?;
        return Some(date.duration_since(SystemTime::now()).unwrap_or_default());
    }
    let limit = text(headers, "ratelimit")?;
    limit.split(';').find_map(|part| part.trim().strip_prefix("t=")?.parse().ok()).map(Duration::from_secs)
}

/// The innermost reason, which is the one that says something ("connection refused").
fn causes(error: &dyn std::error::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn waiting_times_are_read_in_every_form() {
        assert_eq!(retry_after(&headers("retry-after", "7")), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&headers("ratelimit", "\"api\";r=0;t=55")), Some(Duration::from_secs(55)));
        assert_eq!(
            retry_after(&headers("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")),
            Some(Duration::ZERO)
        );
        assert_eq!(retry_after(&headers("retry-after", "soon")), None);
    }

    #[test]
    fn next_pages_are_found_and_may_be_relative() {
        let from = Url::parse("https://h/api/models?x=1").unwrap();
        let page = next_page(
            &headers("link", "<https://h/a>; rel=\"prev\", </api/models?cursor=2>; rel=\"next\""),
            &from,
        );
        assert_eq!(page.unwrap().as_str(), "https://h/api/models?cursor=2");
        for broken in ["", "<", "rel=\"next\"", "> < rel=\"next\"", "<::>rel=prev"] {
            assert!(next_page(&headers("link", broken), &from).is_none(), "{broken}");
        }
    }

    #[test]
    fn etags_lose_their_quotes() {
        assert_eq!(linked_etag(&headers("etag", "W/\"ab\"")).as_deref(), Some("ab"));
        assert_eq!(linked_etag(&headers("x-linked-etag", "\"cd\"")).as_deref(), Some("cd"));
        assert_eq!(linked_etag(&headers("etag", "\"\"")), None);
    }
}
