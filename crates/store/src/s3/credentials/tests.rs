use super::*;
use base::LocalDisk;

const CREDENTIALS: &str = "\
# of this machine
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key=s3cr3t/with#and;and=  # a comment

[backup]
aws_access_key_id=AKIABACKUP
aws_secret_access_key = other
aws_session_token = token
";

const CONFIG: &str = "\
[default]
region = eu-west-1
[profile backup]
region=eu-north-1
s3 =
  addressing_style = path
endpoint_url = http://127.0.0.1:9000
[profile role]
role_arn = arn:aws:iam::1:role/x
";

/// A home with both files, and the variables that are set besides.
struct World {
    home: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

impl World {
    fn new(variables: &[(&'static str, &str)]) -> World {
        let home = tempfile::tempdir().unwrap();
        LocalDisk.create_dir_all(&home.path().join(".aws")).unwrap();
        for (name, text) in [("credentials", CREDENTIALS), ("config", CONFIG)] {
            disk::write_atomic(&LocalDisk, &home.path().join(".aws").join(name), text.as_bytes(), true)
                .unwrap();
        }
        let mut variables: Vec<_> =
            variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        variables.push(("HOME", home.path().to_str().unwrap().to_owned()));
        World { home, variables }
    }

    fn find(&self, options: &S3Options) -> Result<(Credentials, Profile), String> {
        let environment = |name: &str| {
            self.variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
        };
        let profile = profile(&LocalDisk, options, &environment)?;
        Ok((find(options, &profile, &environment)?, profile))
    }

    fn id(&self, options: &S3Options) -> String {
        match self.find(options).map(|(credentials, _)| credentials) {
            Ok(Credentials::Keys { id, .. }) => id,
            Ok(other) => format!("{other:?}"),
            Err(error) => error,
        }
    }
}

fn with_profile(name: &str) -> S3Options {
    S3Options { profile: Some(name.to_owned()), ..S3Options::default() }
}

#[test]
fn the_first_source_that_has_credentials_is_used() {
    let environment =
        [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "x"), ("AWS_PROFILE", "backup")];
    let world = World::new(&environment);
    let configured = S3Options {
        access_key_id: Some("AKIACONF".into()),
        secret_access_key: Some("x".into()),
        ..S3Options::default()
    };
    assert_eq!(world.id(&configured), "AKIACONF");
    assert_eq!(world.id(&with_profile("default")), "AKIADEFAULT");
    assert_eq!(world.id(&S3Options::default()), "AKIAENV");
    assert_eq!(World::new(&[("AWS_PROFILE", "backup")]).id(&S3Options::default()), "AKIABACKUP");
    assert_eq!(World::new(&[]).id(&S3Options::default()), "AKIADEFAULT");
}

#[test]
fn a_profile_is_read_as_aws_reads_it() {
    let world = World::new(&[]);
    let (keys, profile) = world.find(&S3Options::default()).unwrap();
    let secret = "s3cr3t/with#and;and=".to_owned();
    assert_eq!(keys, Credentials::Keys { id: "AKIADEFAULT".into(), secret, token: None });
    assert_eq!(profile.get("region"), Some("eu-west-1"));
    let (keys, profile) = world.find(&with_profile("backup")).unwrap();
    let token = Some("token".to_owned());
    assert_eq!(keys, Credentials::Keys { id: "AKIABACKUP".into(), secret: "other".into(), token });
    assert_eq!(profile.get("endpoint_url"), Some("http://127.0.0.1:9000"));
    assert_eq!(profile.get("addressing_style"), None);
}

#[test]
fn files_are_found_where_the_environment_says() {
    let world = World::new(&[]);
    let elsewhere = world.home.path().join("elsewhere");
    let text = b"[default]\naws_access_key_id=AKIAELSE\naws_secret_access_key=x\n";
    disk::write_atomic(&LocalDisk, &elsewhere, text, true).unwrap();
    let world = World {
        variables: [
            world.variables.clone(),
            vec![("AWS_SHARED_CREDENTIALS_FILE", elsewhere.to_str().unwrap().to_owned())],
        ]
        .concat(),
        ..world
    };
    assert_eq!(world.id(&S3Options::default()), "AKIAELSE");
}

#[test]
fn what_was_asked_for_and_is_not_there_is_told() {
    let world = World::new(&[("AWS_ACCESS_KEY_ID", "AKIAENV")]);
    assert!(world.id(&S3Options::default()).contains("no AWS_SECRET_ACCESS_KEY"));
    assert!(world.id(&with_profile("absent")).contains("`absent` is in none of the AWS files"));
    assert!(world.id(&with_profile("role")).contains("roles, SSO and processes are not followed"));
    let half = S3Options { access_key_id: Some("AKIACONF".into()), ..S3Options::default() };
    assert_eq!(world.id(&half), "there is an access key, but no secret");
}

#[test]
fn without_keys_they_are_fetched() {
    let nowhere = |variables: &[(&str, &str)]| {
        let environment = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        find(&S3Options::default(), &Profile::default(), &environment)
    };
    let setting = |found: Result<Credentials, String>| match found {
        Ok(Credentials::Fetched(settings)) => settings,
        other => panic!("{other:?}"),
    };
    let web = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"), ("AWS_ROLE_ARN", "arn")];
    assert_eq!(setting(nowhere(&web))[0], ("aws_web_identity_token_file", "/token".to_owned()));
    let ecs = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/creds")];
    assert_eq!(setting(nowhere(&ecs))[0], ("aws_container_credentials_relative_uri", "/creds".to_owned()));
    assert_eq!(setting(nowhere(&[])), []);
    assert!(nowhere(&[("AWS_EC2_METADATA_DISABLED", "true")]).unwrap_err().contains("there are none"));
}

#[test]
fn no_secret_is_shown() {
    let keys = Credentials::Keys { id: "AKIA".into(), secret: "s3cr3t".into(), token: Some("t0ken".into()) };
    assert_eq!(format!("{keys:?}"), "Keys");
}
