//! Whose images are taken: the `policy.json` that podman, CRI-O and skopeo read (containers-policy.json(5)), and signatures as cosign
//! writes them with a key. It knows neither Fulcio, Rekor nor GPG, and says so where a policy asks for them.

use super::digest::Digest;
use super::manifest::Descriptor;
use super::reference::{Asked, Reference};
use super::registry::Repository;
use crate::document;
use crate::error::{Context, Error, Kind, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The type of a signature's payload.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation that has the signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Signatures of one image that are tried.
const MOST: usize = 64;
/// Bytes of a signed text: a name, a digest, and what its signer adds.
const PAYLOAD: usize = 64 << 10;
/// What stands before a P-256 point in a public key's DER: SEQUENCE { SEQUENCE { ecPublicKey, prime256v1 }, BIT STRING }.
const P256_HEADER: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

/// What an image must meet.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
enum Requirement {
    InsecureAcceptAnything,
    Reject,
    #[serde(rename_all = "camelCase")]
    SigstoreSigned {
        key_path: PathBuf,
        #[serde(default)]
        signed_identity: Identity,
    },
}

/// Which name a signature must be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum Identity {
    /// The reference that was asked for; by digest, its repository.
    #[default]
    #[serde(rename = "matchRepoDigestOrExact")]
    RepoDigestOrExact,
    #[serde(rename = "matchExact")]
    Exact,
    #[serde(rename = "matchRepository")]
    Repository,
}

impl Policy {
    /// Reads the file; nothing is asked of images where none is named.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let what = || format!("read policy {}", path.display());
        Self::parse(&document::read(path, document::MOST)?).what(what).map(Some)
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let policy: Self = serde_json::from_slice(bytes).map_err(|error| {
            Error::invalid(error.to_string())
                .cure("known are insecureAcceptAnything, reject and sigstoreSigned with keyPath")
        })?;
        let scopes = policy.transports.values().flat_map(BTreeMap::values);
        let is_empty = scopes.chain([&policy.default]).any(Vec::is_empty);
        match is_empty {
            true => Err(Error::invalid("a list of requirements is empty").cure("name one, if only reject")),
            false => Ok(policy),
        }
    }

    /// What the image must meet: of the narrowest scope that has it.
    fn requirements(&self, of: &Reference) -> &[Requirement] {
        let Some(docker) = self.transports.get("docker") else { return &self.default };
        scopes(of).iter().find_map(|scope| docker.get(scope)).unwrap_or(&self.default)
    }

    /// Refuses what is refused whatever it holds, before anything is asked of a registry.
    pub fn allows(&self, of: &Reference) -> Result<()> {
        match self.requirements(of).iter().any(|one| matches!(one, Requirement::Reject)) {
            true => Err(untrusted(format!("policy rejects {of}"))),
            false => Ok(()),
        }
    }

    /// Checks the signatures of what a reference turned out to name.
    pub async fn judge(&self, of: &Reference, digest: &Digest, repository: &Repository) -> Result<()> {
        for requirement in self.requirements(of) {
            let Requirement::SigstoreSigned { key_path, signed_identity } = requirement else { continue };
            let what = || format!("read key {}", key_path.display());
            let key = public_key(&document::text(key_path, document::MOST)?).what(what)?;
            let found = signatures(repository, digest).await?;
            let mut why = "it has no signature".to_owned();
            let is_right =
                found.iter().any(|found| match found.verify(&key, (of, digest), *signed_identity) {
                    Ok(()) => true,
                    Err(wrong) => {
                        wrong.clone_into(&mut why);
                        false
                    }
                });
            if !is_right {
                return Err(untrusted(format!(
                    "verify signature of {digest} by {}: {why}",
                    key_path.display()
                )));
            }
        }
        Ok(())
    }
}

fn untrusted(why: String) -> Error {
    Error::new(Kind::Untrusted, why)
}

/// From the narrowest to the widest: `HOST/REPOSITORY:TAG`, its repository, each namespace above, the host, `*.DOMAIN`.
fn scopes(of: &Reference) -> Vec<String> {
    let mut scopes = vec![of.to_string()];
    let mut name = of.name();
    loop {
        scopes.push(name.clone());
        let Some((above, _)) = name.rsplit_once('/') else { break };
        name = above.to_owned();
    }
    let mut domain = of.host.as_str();
    while let Some((_, above)) = domain.split_once('.') {
        scopes.push(format!("*.{above}"));
        domain = above;
    }
    scopes
}

/// The point of a P-256 public key in PEM.
fn public_key(pem: &str) -> Result<Vec<u8>> {
    let wrong =
        || Error::invalid("it is no P-256 public key in PEM").cure("cosign generate-key-pair makes one");
    let body = pem.split("-----BEGIN PUBLIC KEY-----").nth(1).and_then(|rest| rest.split("-----END").next());
    let text: String = body.ok_or_else(wrong)?.split_whitespace().collect();
    let der = STANDARD.decode(text).map_err(|_| wrong())?;
    der.strip_prefix(&P256_HEADER).map(<[u8]>::to_vec).ok_or_else(wrong)
}

/// A payload and its signature.
struct Signature {
    payload: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Signatures {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: SignedImage,
    identity: SignedName,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SignedImage {
    docker_manifest_digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SignedName {
    docker_reference: String,
}

/// All signatures that the registry has for a digest, under the tag `sha256-HEX.sig`.
async fn signatures(repository: &Repository, digest: &Digest) -> Result<Vec<Signature>> {
    let tag = format!("{}-{}.sig", digest.algorithm(), digest.hex());
    let document = match repository.document(Asked::Tag(&tag)).await {
        Err(error) if error.kind() == Kind::NotFound => return Ok(Vec::new()),
        document => document?,
    };
    let listed: Signatures =
        serde_json::from_slice(document.content.bytes()).what(|| format!("read signatures {tag}"))?;
    let mut found = Vec::new();
    for layer in listed.layers.iter().filter(|layer| layer.descriptor.media_type == SIMPLE_SIGNING).take(MOST)
    {
        let Some(signature) = layer.annotations.get(SIGNATURE).and_then(|text| STANDARD.decode(text).ok())
        else {
            continue;
        };
        let payload = repository.blob(&layer.descriptor, PAYLOAD).await?;
        found.push(Signature { payload: payload.into_bytes(), signature });
    }
    Ok(found)
}

impl Signature {
    /// The signature first: what it does not cover is not looked at.
    fn verify(
        &self,
        key: &[u8],
        (of, digest): (&Reference, &Digest),
        identity: Identity,
    ) -> Result<(), &'static str> {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key);
        key.verify(&self.payload, &self.signature).map_err(|_| "it is signed with another key")?;
        let Payload { critical } =
            serde_json::from_slice(&self.payload).map_err(|_| "the signed text is none of an image")?;
        if critical.kind != "cosign container image signature"
            && critical.kind != "atomic container signature"
        {
            return Err("the signed text is none of an image");
        }
        if critical.image.docker_manifest_digest != digest.as_str() {
            return Err("the signature is of another image");
        }
        let signed = Reference::parse(&critical.identity.docker_reference);
        let signed = signed.map_err(|_| "the signature is for a name that is none")?;
        let same_name = signed.name() == of.name();
        // As it stands there: a name without a tag is not taken for `latest`.
        let exact = critical.identity.docker_reference == of.to_string();
        let fits = match identity {
            Identity::Repository => same_name,
            Identity::Exact => exact,
            Identity::RepoDigestOrExact => {
                if of.digest.is_some() {
                    same_name
                } else {
                    exact
                }
            }
        };
        if fits {
            Ok(())
        } else {
            Err(
                "the signature is for another name (signedIdentity matchRepository takes cosign's, which have no tag)",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

    const HEX: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn of(text: &str) -> Reference {
        Reference::parse(text).expect("a reference")
    }

    #[test]
    fn the_narrowest_scope_counts() {
        let policy = Policy::parse(
            br#"{"default": [{"type": "reject"}], "transports": {"docker": {
            "quay.io": [{"type": "insecureAcceptAnything"}], "quay.io/bad": [{"type": "reject"}],
            "quay.io/bad/good": [{"type": "insecureAcceptAnything"}], "quay.io/bad/good:evil": [{"type": "reject"}],
            "*.example.com": [{"type": "insecureAcceptAnything"}]}}}"#,
        )
        .expect("a policy");
        for (name, is_allowed) in [
            ("quay.io/a/b:1", true),
            ("quay.io/bad/a", false),
            ("quay.io/bad/good:1", true),
            ("quay.io/bad/good:evil", false),
            ("quay.io.evil.com/a", false),
            ("a.b.example.com/c", true),
            ("example.com/c", false),
            ("busybox", false),
        ] {
            assert_eq!(policy.allows(&of(name)).is_ok(), is_allowed, "{name}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_passed_over() {
        for text in [
            r#"{}"#,
            r#"{"default": []}"#,
            r#"{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}]}"#,
            r#"{"default": [{"type": "sigstoreSigned", "keyPath": "/k", "fulcio": {}}]}"#,
            r#"{"default": [{"type": "sigstoreSigned"}]}"#,
            r#"{"default": [{"type": "reject"}], "transport": {}}"#,
        ] {
            assert!(Policy::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_signature_is_for_one_image_under_one_name() {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("a key");
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pair.as_ref(), &random).expect("a key");
        let der = [&P256_HEADER[..], pair.public_key().as_ref()].concat();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
        let key = public_key(&pem).expect("a key");
        let signed = |name: &str, digest: &str| {
            let payload = serde_json::json!({"critical": {"type": "cosign container image signature",
                "image": {"docker-manifest-digest": digest}, "identity": {"docker-reference": name}}, "optional": null});
            let payload = payload.to_string().into_bytes();
            let signature = pair.sign(&random, &payload).expect("a signature").as_ref().to_vec();
            Signature { payload, signature }
        };
        let digest = Digest::parse(HEX).expect("a digest");
        let judge = |signature: &Signature, name: &str, identity| {
            signature.verify(&key, (&of(name), &digest), identity).err().unwrap_or_default()
        };
        use Identity::{Exact, RepoDigestOrExact as Usual, Repository};
        let right = signed("quay.io/a:1", HEX);
        assert_eq!(judge(&right, "quay.io/a:1", Usual), "");
        assert_eq!(judge(&right, &format!("quay.io/a@{HEX}"), Usual), "");
        assert_eq!(judge(&right, "quay.io/a:2", Repository), "");
        assert!(judge(&right, "quay.io/a:2", Usual).contains("another name"));
        assert!(judge(&right, &format!("quay.io/a@{HEX}"), Exact).contains("another name"));
        assert!(judge(&right, "quay.io/b:1", Repository).contains("another name"));
        let other = signed("quay.io/a:1", &HEX.replace('e', "f"));
        assert!(judge(&other, "quay.io/a:1", Usual).contains("another image"));
        let mut torn = signed("quay.io/a:1", HEX);
        torn.payload.push(b' ');
        assert!(judge(&torn, "quay.io/a:1", Usual).contains("another key"));
        assert!(public_key(&pem.replace("PUBLIC", "PRIVATE")).is_err());
    }
}
