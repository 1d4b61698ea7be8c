//! Whose the token is; whether a repository is there; a new one.

use serde::{Deserialize, Serialize};

use super::request::{Request, transfer};
use super::{Hub, HubError, HubTarget, Observer, paths};

/// A repository at one revision.
#[derive(Deserialize)]
pub(super) struct Info {
    /// The commit.
    pub(super) sha: String,
    /// Whether only some people can read it.
    private: Option<bool>,
}

#[derive(Deserialize)]
struct User {
    name: String,
}

#[derive(Serialize)]
struct NewRepository<'a> {
    name: &'a str,
    organization: &'a str,
    r#type: &'static str,
    private: bool,
}

impl Hub {
    /// The name of the token's user: asked before long work, so that a wrong token is told at once.
    ///
    /// # Errors
    /// No token, one that the hub does not accept, or no answer.
    pub fn user(&self, observer: &mut dyn FnMut(super::Event)) -> Result<String, HubError> {
        if !self.has_token() {
            return Err(HubError::NoToken);
        }
        let address = self.endpoint.address("/api/whoami-v2");
        let user: User = self.ask(&Request::get(&address), observer)?.json(&address)?;
        Ok(user.name.chars().filter(|c| !c.is_control()).collect())
    }

    /// A repository at the revision asked for, or `main`; none where it is not there.
    pub(super) fn info(&self, target: &HubTarget, observer: &mut Observer<'_>) -> Result<Option<Info>, HubError> {
        let address = self.info_address(target);
        let answer = self.ask(&Request { also: &[404], ..Request::get(&address) }, observer)?;
        if answer.status == 404 {
            return Ok(None);
        }
        let info: Info = answer.json(&address)?;
        if !is_commit(&info.sha) {
            return Err(transfer(&address, "the answer names no commit"));
        }
        Ok(Some(info))
    }

    pub(super) fn info_address(&self, target: &HubTarget) -> String {
        // A revision is one part of the address, so the `/` in it has to go.
        let revision = paths::quoted(target.revision().unwrap_or("main")).replace('/', "%2F");
        self.endpoint.address(&format!("/api/models/{}/revision/{revision}", target.id()))
    }

    /// The last commit of a repository, which is made where it is not there.
    pub(super) fn ready(
        &self,
        target: &HubTarget,
        private: bool,
        observer: &mut Observer<'_>,
    ) -> Result<String, HubError> {
        let mut found = self.info(target, observer)?;
        if found.is_none() {
            self.create(target, private, observer)?;
            found = self.info(target, observer)?;
        }
        let info = found.ok_or_else(|| transfer(&self.info_address(target), "the new repository is not there"))?;
        if private && info.private == Some(false) {
            return Err(HubError::Public(target.to_string()));
        }
        Ok(info.sha)
    }

    fn create(&self, target: &HubTarget, private: bool, observer: &mut Observer<'_>) -> Result<(), HubError> {
        let address = self.endpoint.address("/api/repos/create");
        let new = NewRepository { name: target.name(), organization: target.owner(), r#type: "model", private };
        let body = to_json(&new);
        // 409: somebody made it meanwhile.
        self.ask(&Request { also: &[409], ..Request::json(&address, &body) }, observer).map(|_| ())
    }
}

/// The 40 digits of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A message of ours as JSON.
pub(super) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts, numbers and lists of them have a form in JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_one_part_of_the_address() {
        let hub = Hub::new("https://huggingface.co", None).unwrap();
        let target = HubTarget::parse("hf://a/b@refs/pr/1").unwrap();
        assert_eq!(hub.info_address(&target), "https://huggingface.co/api/models/a/b/revision/refs%2Fpr%2F1");
    }

    #[test]
    fn commits_are_whole() {
        assert!(is_commit("0123456789abcdef0123456789abcdef01234567"));
        for text in
            ["main", "0123456", "0123456789ABCDEF0123456789abcdef01234567", "../../../../../../../../../../../../.."]
        {
            assert!(!is_commit(text), "{text}");
        }
    }
}
