"""A node's configuration files as text. Writes nothing.

Paths are relative to the node's folder, where the node is started: a home may have any name and may be moved.
"""

from __future__ import annotations

from mlstream.broker.embedded.state import HOST, Node, State

DATA = "data"
SERVER_LOG = "logs/server.log"
JVM_LOG = "logs/jvm.log"
# Kafka's default is 50 partitions each, made for clusters; on one machine they only make start and recovery slower.
INTERNAL_PARTITIONS = 8
# Kafka's default of 128 MiB would be a quarter of the default heap; compaction here cleans small internal topics.
CLEANER_BUFFER_BYTES = 16 << 20
# A node that was killed is registered until its session ends, and its successor has to wait for that: Kafka's default
# of 9 s. Where nobody can take over, a shorter one only makes the recovery quicker.
SESSION_AFTER_KILL_MS = 3000
# Kafka leaves it in the data folder when it closed all files in order, and takes it away when it starts.
CLEAN_MARK = ".kafka_cleanshutdown"


def server_properties(state: State, node: Node, *, data: str = DATA, killed: bool = False) -> str:
    """Kafka's configuration of `node`: broker and controller in one process, loopback only.

    Args:
        state: the cluster.
        node: one of its nodes.
        data: the data folder, in the node's folder.
        killed: whether the node's last process did not shut down in order.
    """
    copies = min(3, len(state.nodes))
    settings: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": node.node_id,
        "listeners": f"PLAINTEXT://{HOST}:{node.port},CONTROLLER://{HOST}:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{node.port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        # Static voters: the controller's port may change between two starts.
        "controller.quorum.voters": ",".join(f"{n.node_id}@{HOST}:{n.controller_port}" for n in state.nodes),
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": INTERNAL_PARTITIONS,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": max(1, copies - 1),
        "transaction.state.log.num.partitions": INTERNAL_PARTITIONS,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": max(1, copies - 1),
        "share.coordinator.state.topic.num.partitions": INTERNAL_PARTITIONS,
        "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.dedupe.buffer.size": CLEANER_BUFFER_BYTES,
    }
    if killed and len(state.nodes) == 1:
        settings["broker.session.timeout.ms"] = SESSION_AFTER_KILL_MS
        settings["broker.heartbeat.interval.ms"] = SESSION_AFTER_KILL_MS // 4
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def log4j_properties() -> str:
    """log 4j 2's configuration: one file of 10 MB, three old ones."""
    return f"""\
status=error
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName={SERVER_LOG}
appender.file.filePattern={SERVER_LOG}.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{{yyyy-MM-dd HH:mm:ss.SSS}} %-5p %m (%c{{1}})%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=10MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=3
rootLogger.level=info
rootLogger.appenderRef.file.ref=file
"""
