//! Machines in a network of the test's own: network namespaces on one switch, from which each can
//! be cut off. What is sent to one that is cut off is lost without a word, as where a cable is
//! pulled.

use crate::network::{Namespace, own, shell};

/// The address of the test itself.
pub const SWITCH_IP: &str = "10.6.0.254";

/// A machine. What runs on it outlives it; what it has sent does not arrive.
pub struct Machine {
    namespace: Namespace,
    number: u8,
}

impl Machine {
    /// Machines on one switch, with the addresses 10.6.0.1, 10.6.0.2 and so on. The calling thread
    /// is moved into a namespace of its own, which has the switch, and the address [`SWITCH_IP`].
    ///
    /// # Panics
    /// If they cannot be created, which takes root.
    #[must_use]
    pub fn several(number: u8) -> Vec<Machine> {
        own();
        shell(&format!(
            "set -e
            ip link add switch type bridge forward_delay 0
            ip addr add {SWITCH_IP}/24 dev switch
            ip link set switch up"
        ));
        (1..=number).map(Machine::new).collect()
    }

    fn new(number: u8) -> Machine {
        let machine = Machine { namespace: Namespace::new(), number };
        shell(&format!(
            "set -e
            ip link add m{number} type veth peer name eth0 netns {pid}
            ip link set m{number} master switch up
            nsenter -t {pid} -n ip addr add {ip}/24 dev eth0
            nsenter -t {pid} -n ip link set eth0 up",
            pid = machine.namespace.id(),
            ip = machine.ip()
        ));
        machine
    }

    /// Its address.
    #[must_use]
    pub fn ip(&self) -> String {
        format!("10.6.0.{}", self.number)
    }

    /// Runs a function on the machine, in a thread of its own. The processes and sockets that it
    /// leaves behind stay there.
    ///
    /// # Panics
    /// If the function panics.
    pub fn run<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(function)
    }

    /// Cuts it off from all others.
    pub fn cut(&self) {
        shell(&format!("ip link set m{} nomaster", self.number));
    }

    /// Connects it again.
    pub fn mend(&self) {
        shell(&format!("ip link set m{} master switch", self.number));
    }
}
