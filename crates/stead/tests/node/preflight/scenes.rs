//! The scenes in which findings are produced: real owners, modes, mounts, limits, namespaces and processes.

use super::*;
use crate::support::{STEAD, Silent, Tmpfs, clean};
use std::any::Any;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::process::{Child, Output, Stdio};

/// Mends what no command can.
type ByHand = Box<dyn FnOnce(&mut Scene)>;

/// Something that is not as it must be, and how it is looked at.
pub struct Scene {
    /// Mounts and processes, which end before the home is removed.
    kept: Vec<Box<dyn Any>>,
    home: Home,
    /// What the finding names.
    pub path: String,
    /// Another name that its message or its cure has.
    pub other: String,
    args: Vec<String>,
    variables: Vec<(&'static str, String)>,
    /// Where everything is run.
    inside: Vec<String>,
    /// As whom, or within which limits, `stead` is run.
    only: Vec<String>,
    program: PathBuf,
    by_hand: Option<ByHand>,
}

impl Scene {
    fn new(home: Home, path: &Path, args: &[&str]) -> Scene {
        Scene {
            home,
            path: path.to_str().unwrap().to_owned(),
            other: String::new(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            variables: Vec::new(),
            inside: Vec::new(),
            only: Vec::new(),
            program: PathBuf::from(STEAD),
            by_hand: None,
            kept: Vec::new(),
        }
    }

    fn keep(mut self, thing: impl Any) -> Scene {
        self.kept.push(Box::new(thing));
        self
    }

    fn other(self, other: impl AsRef<Path>) -> Scene {
        Scene { other: other.as_ref().to_str().unwrap().to_owned(), ..self }
    }

    fn inside(self, space: Namespace) -> Scene {
        Scene { inside: space.enter(), ..self }.keep(space)
    }

    fn by_hand(self, mend: impl FnOnce(&mut Scene) + 'static) -> Scene {
        Scene { by_hand: Some(Box::new(mend)), ..self }
    }

    /// The same with a variable, which the finding is about.
    pub fn with(mut self, name: &'static str, value: &str) -> Scene {
        self.variables.push((name, value.to_owned()));
        Scene { path: name.to_owned(), ..self }
    }

    fn command(&self, prefix: &[&[String]], program: &Path) -> Command {
        let mut words = prefix.concat();
        words.push(program.to_str().unwrap().to_owned());
        let mut command = Command::new(&words[0]);
        clean(&mut command).args(&words[1..]).stdin(Stdio::null());
        command
    }

    /// `stead preflight`, with more arguments.
    pub fn stead(&self, more: &[&str]) -> Output {
        let mut command = self.command(&[&self.inside, &self.only], &self.program);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
            .arg("--home")
            .arg(self.home.root())
            .arg("preflight")
            .args(&self.args)
            .args(more)
            .output()
            .unwrap()
    }

    pub fn look(&self) -> Look {
        let out = self.stead(&["--json"]);
        let said = serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out.stderr)));
        Look { code: out.status.code(), said }
    }

    pub fn is_well(&self) {
        let look = self.look();
        assert!(look.code == Some(0) && look.findings().is_empty(), "{:#}", look.said);
    }

    /// Runs a cure as root, who needs no sudo.
    pub fn shell(&self, script: &str) {
        let out =
            self.command(&[&self.inside], Path::new("sh")).args(["-c", &plain(script)]).output().unwrap();
        assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// Runs a cure in the shell that starts the program from now on.
    pub fn export(&mut self, fix: &str) {
        let script = format!("{fix}; exec \"$@\"");
        self.only = ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
    }

    pub fn mend_by_hand(&mut self) {
        if let Some(mend) = self.by_hand.take() {
            mend(self);
        }
    }
}

/// A mount and network namespace of its own, held by a process that waits.
struct Namespace(Child);

impl Namespace {
    /// Such a one, in which a script has run.
    fn new(kinds: &str, script: &str) -> Namespace {
        let mut holder = Command::new("unshare")
            .args([kinds, "sh", "-c", &format!("{script} && echo ready && read nothing")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(line(&mut holder), "ready\n", "no namespace: this test needs root");
        Namespace(holder)
    }

    /// In which `/etc/fstab` has one entry: a file system in memory.
    fn with_fstab(home: &Home, at: &Path, script: &str) -> Namespace {
        let fstab = home.beside("fstab");
        std::fs::write(&fstab, format!("none {} tmpfs size=512m 0 0\n", at.display())).unwrap();
        Namespace::new("-m", &format!("mount --bind {} /etc/fstab && {script}", fstab.display()))
    }

    fn enter(&self) -> Vec<String> {
        ["nsenter", "-t", &self.0.id().to_string(), "-m", "-n"].map(str::to_owned).to_vec()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first line that a process says.
fn line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line
}

/// What is looked at with `--dir`, for the app's user.
fn for_the_app(home: Home, path: &Path) -> Scene {
    let arg = for_app(path);
    Scene::new(home, path, &["--dir", &arg])
}

/// The same for the node itself.
fn for_root(home: Home, path: &Path) -> Scene {
    Scene::new(home, path, &["--dir", path.to_str().unwrap()])
}

/// What is looked at with `--config`: an app of 1000:1000, and these keys.
fn configured(home: Home, path: &Path, more: Value) -> Scene {
    let mut config = json!({ "name": "pre", "listen": home.address(), "token": "a-token-of-some-length",
        "app": { "command": ["sleep", "1"], "user": "1000:1000" } });
    for (key, value) in more.as_object().unwrap() {
        match value.as_object().filter(|_| key == "app") {
            Some(app) => config["app"].as_object_mut().unwrap().extend(app.clone()),
            None => config[key] = value.clone(),
        }
    }
    let file = write_config(&home, &config);
    Scene::new(home, path, &["--config", &file])
}

pub fn bucket_without_authority() -> Scene {
    let home = Home::new();
    let authority = home.beside("authority.pem");
    let storage = json!({
        "url": "s3://bucket/notes", "endpoint": "https://127.0.0.1:1", "ca_file": authority,
        "access_key_id": "id", "secret_access_key": "secret",
    });
    let scene = configured(home, Path::new("s3://bucket/notes"), json!({ "storage": storage }));
    scene.other(authority).by_hand(|scene| {
        let config: Value = serde_json::from_slice(&std::fs::read(&scene.args[1]).unwrap()).unwrap();
        let mut config = config.as_object().unwrap().clone();
        config.remove("storage");
        std::fs::write(&scene.args[1], Value::from(config).to_string()).unwrap();
    })
}

pub fn missing() -> Scene {
    let home = Home::new();
    let path = home.beside("music");
    for_the_app(home, &path)
}

pub fn file() -> Scene {
    let scene = missing();
    std::fs::write(&scene.path, "precious").unwrap();
    scene
}

pub fn dangling() -> Scene {
    let scene = missing();
    symlink("gone", &scene.path).unwrap();
    let gone = scene.home.beside("gone");
    scene.other(gone)
}

pub fn round() -> Scene {
    let scene = missing();
    symlink("music", &scene.path).unwrap();
    scene
}

pub fn of_root() -> Scene {
    let scene = missing();
    directory(PathBuf::from(&scene.path), (0, 0), 0o755);
    scene
}

pub fn closed_to_the_app() -> Scene {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o755);
    configured(home, &path, json!({ "preflight": { "directories": [{ "path": path }] } }))
}

pub fn closed_above() -> Scene {
    let home = Home::new();
    let above = directory(home.beside("closed"), (0, 0), 0o700);
    let path = directory(above.join("music"), APP, 0o755);
    for_the_app(home, &path).other(above)
}

pub fn access_list() -> Scene {
    let scene = closed_to_the_app();
    scene.shell(&format!("chmod 777 {0} && setfacl -m u:1000:--- {0}", scene.path));
    scene
}

pub fn immutable() -> Scene {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o755);
    let scene = for_root(home, &path);
    scene.shell(&format!("chattr +i {}", scene.path));
    scene
}

pub fn append_only() -> Scene {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o755);
    let scene = for_root(home, &path);
    scene.shell(&format!("chattr +a {}", scene.path));
    scene.by_hand(|scene| scene.shell(&format!("chattr -a {0} && rm {0}/.stead-probe-*", scene.path)))
}

pub fn read_only() -> Scene {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o755);
    let bound = format!("mount --bind {0} {0} && mount -o remount,bind,ro {0}", path.display());
    for_root(home, &path).inside(Namespace::new("-m", &bound))
}

fn on(small: Tmpfs, remount: &str) -> Scene {
    let path = directory(small.root().join("music"), (0, 0), 0o755);
    let mend = format!("rm -f {0}/ballast && mount -o remount,{remount} {0}", small.root().display());
    for_root(Home::new(), &path).keep(small).by_hand(move |scene| scene.shell(&mend))
}

pub fn small() -> Scene {
    on(Tmpfs::new(8), "size=512m")
}

pub fn full() -> Scene {
    let small = Tmpfs::new(8);
    small.fill(0);
    on(small, "size=512m")
}

pub fn few_inodes() -> Scene {
    on(Tmpfs::with("size=1g,nr_inodes=20"), "nr_inodes=10k")
}

pub fn without_inodes() -> Scene {
    let scene = few_inodes();
    let files = (0..).map(|number| format!("{}/{number}", scene.path));
    assert_eq!(files.take_while(|file| std::fs::write(file, "").is_ok()).count(), 18);
    scene
}

pub fn not_mounted() -> Scene {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o755);
    let space = Namespace::with_fstab(&home, &path, "true");
    for_root(home, &path).inside(space)
}

pub fn hung() -> Scene {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o755);
    let silent = Silent::over(&path);
    let space = Namespace::with_fstab(&home, &path, "true");
    for_root(home, &path).inside(space).keep(silent)
}

pub fn server_gone() -> Scene {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o755);
    let mount = format!(
        "exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 gone {} && exec 3>&-",
        path.display()
    );
    let space = Namespace::with_fstab(&home, &path, &mount);
    for_root(home, &path).inside(space)
}

pub fn after_three_that_hang() -> Scene {
    let home = Home::new();
    let paths = ["a", "b", "c", "music"].map(|name| directory(home.beside(name), (0, 0), 0o755));
    let silent: Vec<_> = paths[..3].iter().map(|path| Silent::over(path)).collect();
    let args: Vec<&str> = paths.iter().flat_map(|path| ["--dir", path.to_str().unwrap()]).collect();
    Scene::new(home, &paths[3], &args).keep(silent).by_hand(|scene| scene.kept.clear())
}

pub fn within_a_file_size() -> Scene {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o755);
    let limited = ["prlimit", "--fsize=0"].map(str::to_owned).to_vec();
    Scene { only: limited, ..for_root(home, &path) }.by_hand(|scene| scene.only.clear())
}

pub fn database_directory() -> Scene {
    let home = Home::new();
    let path = home.path("data/database.sqlite");
    std::fs::create_dir_all(&path).unwrap();
    configured(home, Path::new("data/database.sqlite"), json!({})).other(path)
}

fn server(head: &str, mode: u32) -> Scene {
    let home = Home::new();
    let path = home.write("server", format!("{head}\nexec sleep 1000\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    configured(home, Path::new("./server"), json!({ "app": { "command": ["./server"] } })).other(path)
}

pub fn no_program() -> Scene {
    server("#!/bin/sh", 0o644)
}

pub fn no_command() -> Scene {
    let scene = server("#!/bin/sh", 0o755);
    scene.shell(&format!("mv {0} {0}.new", scene.other));
    scene.by_hand(|scene| scene.shell(&format!("mv {0}.new {0}", scene.other)))
}

pub fn no_interpreter() -> Scene {
    let home = Home::new();
    let interpreter = home.beside("interpreter");
    let path = home.write("migrate", format!("#! {} -x\n", interpreter.display()));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let scene = configured(home, &path, json!({ "app": { "before": [[path]] } })).other(&interpreter);
    scene.by_hand(move |_| symlink("/bin/sh", interpreter).unwrap())
}

pub fn noexec() -> Scene {
    let mounted = Tmpfs::with("size=512m,noexec,mode=755");
    let path = mounted.root().join("server");
    std::fs::write(&path, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let scene = configured(Home::new(), &path, json!({ "app": { "command": [path] } }));
    scene.other(mounted.root()).keep(mounted)
}

pub fn not_root() -> Scene {
    let home = Home::new();
    // Where another user can run it, wherever it was built.
    let program = home.beside("stead");
    std::fs::hard_link(STEAD, &program).or_else(|_| std::fs::copy(STEAD, &program).map(drop)).unwrap();
    let as_somebody =
        ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"].map(str::to_owned).to_vec();
    let scene = configured(home, Path::new("app.user"), json!({}));
    Scene { program, only: as_somebody, ..scene }.by_hand(|scene| scene.only.clear())
}

pub fn taken_port() -> Scene {
    let home = Home::new();
    let address = home.socket_address();
    let script = "import socket, sys; s = socket.socket(); s.bind((sys.argv[1], int(sys.argv[2]))); s.listen(); \
        print('ready', flush=True); sys.stdin.read()";
    let mut holder = Command::new("python3")
        .args(["-c", script, &address.ip().to_string(), &address.port().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(line(&mut holder), "ready\n");
    let pid = holder.id().to_string();
    let scene = configured(home, Path::new(&address.to_string()), json!({})).other(pid);
    scene.by_hand(move |_| assert!(holder.wait().unwrap().code().is_none()))
}

pub fn low_port() -> Scene {
    let path = Path::new("127.0.0.1:80");
    let scene = configured(Home::new(), path, json!({ "listen": path }));
    let without = ["setpriv", "--bounding-set=-net_bind_service"].map(str::to_owned).to_vec();
    Scene { only: without, ..scene.inside(Namespace::new("-mn", "ip link set lo up")) }
}

fn at_address(address: &str) -> Scene {
    let scene = configured(Home::new(), Path::new(address), json!({ "listen": address }));
    scene.by_hand(|scene| {
        write_config(&scene.home, &json!({ "name": "pre", "listen": scene.home.address() }));
    })
}

pub fn foreign_address() -> Scene {
    at_address("192.0.2.1:8080")
}

pub fn address_without_its_device() -> Scene {
    at_address("[fe80::1]:8080")
}

/// A directory that anybody may use, looked at with a variable set.
pub fn variable(name: &'static str, value: &str) -> Scene {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o777);
    let scene = for_root(home, &path);
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    scene.with(name, value).other(machine.trim())
}
