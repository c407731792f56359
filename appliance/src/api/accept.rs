//! What shape a client wants its answer in: the `Accept` header becomes a representation. Pure.
//!
//! Of the alternatives a client lists, the first one we can make wins, better `q` before worse; a header that
//! leaves us nothing is refused rather than answered with something else. Protobuf and CBOR are never offered.

/// Which part of an object an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// The object itself.
    Whole,
    /// Rows of cells, as `kubectl get` prints them.
    Table { version: MetaVersion, include: IncludeObject },
    /// The metadata alone.
    Metadata { version: MetaVersion },
}

/// The version of the `meta.k8s.io` group an answer is written in; only its name differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MetaVersion {
    V1,
    V1Beta1,
}

impl MetaVersion {
    /// As `apiVersion` has it.
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            MetaVersion::V1 => "meta.k8s.io/v1",
            MetaVersion::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// How much of the object each row of a table carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

/// How an answer is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    Json,
    Yaml,
}

impl Format {
    /// As `Content-Type` has it.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
        }
    }
}

/// Shape and format together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Representation {
    pub(crate) shape: Shape,
    pub(crate) format: Format,
}

impl Representation {
    /// What is sent when nobody asks for anything else.
    pub(crate) const PLAIN: Representation = Representation { shape: Shape::Whole, format: Format::Json };
}

/// Nothing the client accepts can be made; the text lists what can.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotAcceptable;

impl NotAcceptable {
    /// The media types we make.
    pub(crate) const OFFERED: &'static str = "application/json, application/yaml";
}

/// The aggregated form of discovery, by version, when a client prefers it to the plain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregated {
    V2,
    V2Beta1,
}

/// One alternative of an `Accept` header.
struct Alternative<'h> {
    media_type: &'h str,
    parameters: Vec<(&'h str, &'h str)>,
    /// In thousandths, as the grammar has at most three digits.
    quality: u16,
}

impl<'h> Alternative<'h> {
    fn read(text: &'h str) -> Alternative<'h> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or("");
        let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
        let quality = parameters.iter().find(|(name, _)| *name == "q");
        let quality = quality.and_then(|(_, value)| value.parse::<f32>().ok()).unwrap_or(1.0);
        Alternative { media_type, parameters, quality: (quality.clamp(0.0, 1.0) * 1000.0) as u16 }
    }

    fn get(&self, name: &str) -> Option<&'h str> {
        self.parameters.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
    }

    fn format(&self) -> Option<Format> {
        match self.media_type {
            "*/*" | "application/*" | "application/json" => Some(Format::Json),
            "application/yaml" => Some(Format::Yaml),
            _ => None,
        }
    }

    fn shape(&self, include: IncludeObject) -> Option<Shape> {
        let Some(transform) = self.get("as") else { return Some(Shape::Whole) };
        let version = match (self.get("g"), self.get("v")) {
            (Some("meta.k8s.io"), Some("v1")) => MetaVersion::V1,
            (Some("meta.k8s.io"), Some("v1beta1")) => MetaVersion::V1Beta1,
            _ => return None,
        };
        match transform {
            "Table" => Some(Shape::Table { version, include }),
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Shape::Metadata { version }),
            _ => None,
        }
    }
}

fn alternatives(header: &str) -> Vec<Alternative<'_>> {
    let mut all: Vec<_> = header.split(',').map(Alternative::read).filter(|a| a.quality > 0).collect();
    all.sort_by_key(|alternative| std::cmp::Reverse(alternative.quality));
    all
}

/// The representation of an object or a list. No header at all, or an empty one, is plain JSON.
pub(crate) fn representation(accept: Option<&str>, query: &str) -> Result<Representation, NotAcceptable> {
    let header = accept.map(str::trim).filter(|header| !header.is_empty());
    let Some(header) = header else { return Ok(Representation::PLAIN) };
    let include = include_object(query);
    alternatives(header)
        .iter()
        .find_map(|a| Some(Representation { shape: a.shape(include)?, format: a.format()? }))
        .ok_or(NotAcceptable)
}

fn include_object(query: &str) -> IncludeObject {
    let asked = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "includeObject");
    match asked.as_ref().map(|(_, value)| value.as_ref()) {
        Some("None") => IncludeObject::None,
        Some("Object") => IncludeObject::Object,
        _ => IncludeObject::Metadata,
    }
}

/// The form of discovery a client prefers: aggregated, or plain for `None`.
pub(crate) fn discovery(accept: Option<&str>) -> Option<Aggregated> {
    let wanted = |a: &Alternative<'_>| match (a.media_type, a.get("as"), a.get("g"), a.get("v")) {
        ("application/json", Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => {
            Some(Some(Aggregated::V2))
        }
        ("application/json", Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => {
            Some(Some(Aggregated::V2Beta1))
        }
        (_, None, ..) if a.format().is_some() => Some(None),
        _ => None,
    };
    alternatives(accept.unwrap_or("")).iter().find_map(wanted).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str) -> Option<Representation> {
        representation(Some(accept), "").ok()
    }

    fn table(version: MetaVersion) -> Option<Representation> {
        let shape = Shape::Table { version, include: IncludeObject::Metadata };
        Some(Representation { shape, format: Format::Json })
    }

    #[test]
    fn no_wish_is_plain_json() {
        assert_eq!(representation(None, ""), Ok(Representation::PLAIN));
        for accept in ["", "*/*", "application/*", "application/json", "application/json;stream=watch"] {
            assert_eq!(check(accept), Some(Representation::PLAIN), "{accept}");
        }
        assert_eq!(
            check("application/vnd.kubernetes.protobuf, application/json"),
            Some(Representation::PLAIN)
        );
    }

    #[test]
    fn kubectl_gets_its_table_whatever_the_order_of_parameters() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(check(kubectl), table(MetaVersion::V1));
        assert_eq!(check("application/json;g=meta.k8s.io;v=v1beta1;as=Table"), table(MetaVersion::V1Beta1));
        assert_eq!(check("application/json;as=Table;v=v9;g=meta.k8s.io,application/json"), check("*/*"));
    }

    #[test]
    fn a_table_row_carries_what_was_asked() {
        let accept = Some("application/json;as=Table;v=v1;g=meta.k8s.io");
        for (query, expected) in [
            ("", IncludeObject::Metadata),
            ("includeObject=Object", IncludeObject::Object),
            ("includeObject=None", IncludeObject::None),
        ] {
            let shape = representation(accept, query).unwrap().shape;
            assert_eq!(shape, Shape::Table { version: MetaVersion::V1, include: expected });
        }
    }

    #[test]
    fn kube_rs_gets_metadata_alone() {
        let expected = Shape::Metadata { version: MetaVersion::V1 };
        for name in ["PartialObjectMetadata", "PartialObjectMetadataList"] {
            let accept = format!("application/json;as={name};g=meta.k8s.io;v=v1");
            assert_eq!(check(&accept).unwrap().shape, expected);
        }
    }

    #[test]
    fn what_we_can_not_make_is_refused() {
        for accept in ["text/html", "application/vnd.kubernetes.protobuf", "application/json;q=0"] {
            assert_eq!(representation(Some(accept), ""), Err(NotAcceptable), "{accept}");
        }
    }

    #[test]
    fn quality_decides_before_order() {
        let accept = "application/json;q=0.5, application/yaml";
        assert_eq!(check(accept).unwrap().format, Format::Yaml);
    }

    #[test]
    fn discovery_is_aggregated_for_those_who_prefer_it() {
        let kubectl_133 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        let kubectl_127 =
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        let july_2026 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList;profile=nopeer,application/json";
        assert_eq!(discovery(Some(kubectl_133)), Some(Aggregated::V2));
        assert_eq!(discovery(Some(kubectl_127)), Some(Aggregated::V2Beta1));
        assert_eq!(discovery(Some(july_2026)), Some(Aggregated::V2));
        assert_eq!(discovery(Some("application/json, */*")), None);
        assert_eq!(discovery(None), None);
    }
}
