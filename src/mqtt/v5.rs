//! MQTT 5.0: the client library's types stop here.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectProperties, ConnectReturnCode, DisconnectReasonCode, Filter, LastWill, LastWillProperties,
    Login, Packet, PubAck, PubAckReason, Publish, PublishProperties, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error as PacketError, QoS};
use rumqttc::v5::{AsyncClient, ConnectionError, Event as ClientEvent, EventLoop, MqttOptions, StateError, TlsError};
use rumqttc::{NetworkOptions, Outgoing, TlsConfiguration, Transport};
use tokio_util::bytes::BytesMut;

use super::connection::{
    Answer, CLIENT_QUEUE, CLIENT_TIMEOUT_S, Event, Opening, SEND_BUFFER_BYTES, Stay, Subscription, Unsendable, Up,
};
use super::failure::{Failure, Refusal};
use super::message::{Message, Received};
use super::settings::SessionSettings;
use super::state::BrokerLimits;

/// Reasons from here on say no (MQTT 5, 2.4).
const REFUSALS: u8 = 0x80;

/// How long the broker keeps our subscriptions and what arrives for us while we are away.
const SESSION_EXPIRY_S: u32 = 24 * 60 * 60;

/// Largest packet that the broker may send us, in bytes: a configuration with its rules and profiles.
const INCOMING_MAX: u32 = (2 << 20) + 4096;

/// Unacknowledged messages the broker may have on the way to us.
const RECEIVE_MAXIMUM: u16 = 16;

pub(super) struct Sender(AsyncClient);

pub(super) struct Events {
    event_loop: Box<EventLoop>,
    /// What the client gave up on, told after the events it had still read.
    ended: Option<Failure>,
    ours: Ours,
}

/// Our side of the limits.
struct Ours {
    max_packet: u32,
    in_flight: u16,
    packet_ids: u16,
    keep_alive: Duration,
}

pub(super) fn open(opening: Opening<'_>) -> (Sender, Events) {
    let settings = opening.settings;
    let packet_ids = opening.packet_ids();
    let mut options = MqttOptions::new(&settings.client_id, opening.host(), settings.port);
    options
        .set_keep_alive(settings.keep_alive())
        .set_clean_start(opening.stay == Stay::Visit)
        .set_connection_timeout(CLIENT_TIMEOUT_S)
        .set_outgoing_inflight_upper_limit(packet_ids)
        .set_connect_properties(ConnectProperties {
            session_expiry_interval: Some(if opening.stay == Stay::Visit { 0 } else { SESSION_EXPIRY_S }),
            receive_maximum: Some(RECEIVE_MAXIMUM),
            max_packet_size: Some(settings.max_packet.min(INCOMING_MAX)),
            topic_alias_max: None,
            request_response_info: None,
            request_problem_info: None,
            user_properties: Vec::new(),
            authentication_method: None,
            authentication_data: None,
        });
    if let Stay::Lasting { retain } = opening.stay {
        options.set_last_will(will(&settings.will, retain));
    }
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_tcp_send_buffer_size(SEND_BUFFER_BYTES);
    options.set_network_options(network);
    if let Some(username) = &settings.username {
        options.set_credentials(username, opening.password);
    }
    if let Some(tls) = opening.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    }
    let (client, event_loop) = AsyncClient::new(options, CLIENT_QUEUE);
    let ours = Ours {
        max_packet: settings.max_packet,
        in_flight: settings.in_flight,
        packet_ids,
        keep_alive: settings.keep_alive(),
    };
    (Sender(client), Events { event_loop: Box::new(event_loop), ended: None, ours })
}

/// The CONNECT of a connection that leaves nothing behind.
pub(super) fn connect_bytes(settings: &SessionSettings, password: String) -> Vec<u8> {
    let connect = Connect {
        keep_alive: u16::try_from(settings.keep_alive().as_secs()).unwrap_or(u16::MAX),
        client_id: settings.client_id.clone(),
        clean_start: true,
        properties: None,
    };
    let login = settings.username.as_ref().map(|username| Login::new(username, password));
    let mut bytes = BytesMut::new();
    // Fails only for packets larger than a limit, and there is none.
    _ = Packet::Connect(connect, None, login).write(&mut bytes, None);
    bytes.to_vec()
}

/// The server that the CONNACK in `bytes` names (MQTT 5, 3.2.2.3.16).
pub(super) fn server_reference(bytes: &[u8]) -> Option<String> {
    match Packet::read(&mut BytesMut::from(bytes), None) {
        Ok(Packet::ConnAck(connack)) => connack.properties?.server_reference,
        Ok(_) | Err(_) => None,
    }
}

fn will(message: &Message, retain: bool) -> LastWill {
    let properties = LastWillProperties {
        delay_interval: None,
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: message.content_type.map(str::to_owned),
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    let retain = retain && message.retain;
    LastWill::new(&message.topic, message.payload.clone(), QoS::AtLeastOnce, retain, Some(properties))
}

/// Bytes of `message` on the wire.
pub(super) fn packet_size(message: &Message) -> usize {
    let mut publish =
        Publish::new(&message.topic, QoS::AtLeastOnce, message.payload.clone(), Some(properties(message)));
    publish.pkid = 1;
    publish.size()
}

fn properties(message: &Message) -> PublishProperties {
    PublishProperties {
        message_expiry_interval: message.expiry.map(|span| u32::try_from(span.as_secs()).unwrap_or(u32::MAX)),
        content_type: message.content_type.map(str::to_owned),
        correlation_data: message.correlation_data.clone(),
        ..PublishProperties::default()
    }
}

impl Sender {
    pub(super) fn publish(&self, message: Message) -> Result<(), Unsendable> {
        let properties = properties(&message);
        let Message { topic, payload, retain, .. } = message;
        let handed = self.0.try_publish_with_properties(topic, QoS::AtLeastOnce, retain, payload, properties);
        handed.map_err(|_| Unsendable)
    }

    pub(super) fn subscribe(&self, subscriptions: &[Subscription]) -> Result<(), Unsendable> {
        let filters = subscriptions.iter().map(|subscription| {
            let qos = if subscription.lasting { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            // Retain as published: what a later subscriber would be given again has to be told from what was sent now.
            Filter { preserve_retain: true, ..Filter::new(&subscription.filter, qos) }
        });
        self.0.try_subscribe_many(filters).map_err(|_| Unsendable)
    }

    pub(super) fn unsubscribe(&self, filter: &str) -> Result<(), Unsendable> {
        self.0.try_unsubscribe(filter).map_err(|_| Unsendable)
    }

    pub(super) fn disconnect(&self) -> Result<(), Unsendable> {
        self.0.try_disconnect().map_err(|_| Unsendable)
    }
}

impl Events {
    pub(super) async fn next(&mut self) -> Result<Event, Failure> {
        if self.ended.is_none() {
            match self.event_loop.poll().await {
                Ok(event) => return Ok(self.translate(event)),
                Err(error) => self.ended = Some(failure(error)),
            }
        }
        // The last read may have held acknowledgements before what ended the connection: they count.
        match self.event_loop.state.events.pop_front() {
            Some(ClientEvent::Incoming(Packet::Disconnect(disconnect))) => {
                let named = disconnect.properties.and_then(|properties| properties.server_reference);
                self.ended = self.ended.take().map(|failure| failure.naming(named));
                Ok(Event::Other)
            }
            Some(event) => Ok(self.translate(event)),
            None => Err(self.ended.take().unwrap_or(Failure::Closed)),
        }
    }

    fn translate(&mut self, event: ClientEvent) -> Event {
        match event {
            ClientEvent::Incoming(Packet::ConnAck(connack)) => Event::Up(self.up(&connack)),
            ClientEvent::Incoming(Packet::PubAck(puback)) => Event::Answered(puback.pkid, answer(puback)),
            ClientEvent::Incoming(Packet::SubAck(suback)) => Event::Subscribed {
                id: suback.pkid,
                refused: suback
                    .return_codes
                    .iter()
                    .enumerate()
                    .filter(|(_, code)| !matches!(code, SubscribeReasonCode::Success(_)))
                    .map(|(position, _)| position)
                    .collect(),
            },
            ClientEvent::Incoming(Packet::Publish(publish)) => received(publish).map_or(Event::Other, Event::Received),
            ClientEvent::Outgoing(Outgoing::Publish(id)) => Event::Sent(id),
            ClientEvent::Outgoing(Outgoing::Subscribe(id)) => Event::SubscribeSent(id),
            ClientEvent::Outgoing(Outgoing::Unsubscribe(_)) => Event::UnsubscribeSent,
            ClientEvent::Outgoing(Outgoing::Disconnect) => Event::Disconnected,
            ClientEvent::Incoming(_) | ClientEvent::Outgoing(_) => Event::Other,
        }
    }

    fn up(&mut self, connack: &ConnAck) -> Up {
        let granted = connack.properties.as_ref();
        let server_keep_alive = granted.and_then(|granted| granted.server_keep_alive);
        if server_keep_alive == Some(0) {
            // The client would take zero for "ping without pause"; a broker that asks for none takes ours as well.
            self.event_loop.options.set_keep_alive(self.ours.keep_alive);
        }
        let receive_max = granted.and_then(|granted| granted.receive_max).unwrap_or(u16::MAX).max(1);
        let max_packet = granted.and_then(|granted| granted.max_packet_size).unwrap_or(u32::MAX);
        let own_keep_alive = u16::try_from(self.ours.keep_alive.as_secs()).unwrap_or(u16::MAX);
        Up {
            session_present: connack.session_present,
            limits: BrokerLimits {
                max_packet: max_packet.min(self.ours.max_packet),
                aim_packet: max_packet.min(self.ours.max_packet),
                in_flight: receive_max.min(self.ours.in_flight),
                retain_available: granted.and_then(|granted| granted.retain_available) != Some(0),
                keep_alive_s: server_keep_alive.unwrap_or(own_keep_alive),
                session_expiry_s: granted
                    .and_then(|granted| granted.session_expiry_interval)
                    .or(Some(SESSION_EXPIRY_S)),
                assigned_client_id: granted.and_then(|granted| granted.assigned_client_identifier.clone()),
            },
            packet_ids: u64::from(receive_max.min(self.ours.packet_ids)),
            takes_qos_1: granted.and_then(|granted| granted.max_qos) != Some(0),
        }
    }
}

fn received(publish: Publish) -> Option<Received> {
    let properties = publish.properties.unwrap_or_default();
    Some(Received {
        topic: String::from_utf8(publish.topic.to_vec()).ok()?,
        payload: publish.payload,
        retain: publish.retain,
        is_repeat: publish.dup,
        response_topic: properties.response_topic,
        correlation_data: properties.correlation_data,
    })
}

/// Reasons of a PUBACK (MQTT 5, 3.4.2.1).
fn answer(puback: PubAck) -> Answer {
    let (reason, text) = match puback.reason {
        PubAckReason::Success => return Answer::Taken,
        PubAckReason::NoMatchingSubscribers => return Answer::NoSubscribers,
        PubAckReason::UnspecifiedError => (0x80, "unspecified error"),
        PubAckReason::ImplementationSpecificError => (0x83, "implementation specific error"),
        PubAckReason::NotAuthorized => (0x87, "not authorised: the broker's access rules forbid this topic"),
        PubAckReason::TopicNameInvalid => (0x90, "the broker does not accept this topic"),
        PubAckReason::PacketIdentifierInUse => (0x91, "packet id in use"),
        PubAckReason::QuotaExceeded => (0x97, "quota exceeded"),
        PubAckReason::PayloadFormatInvalid => (0x99, "payload format invalid"),
    };
    let said = puback.properties.and_then(|properties| properties.reason_string);
    let text = said.map_or_else(|| text.to_owned(), |said| format!("{text} ({said})"));
    Answer::Refused { reason, text }
}

/// Reasons that the client cannot read in a PUBACK (MQTT 5, 2.4).
fn reason_text(reason: u8) -> &'static str {
    match reason {
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x89 => "server busy",
        0x8B => "server shutting down",
        0x93 => "more messages under way than the broker takes",
        0x95 => "packet too large",
        0x96 => "message rate too high",
        0x98 => "administrative action",
        0x9A => "retained messages are not supported",
        0x9B => "this quality of service is not supported",
        _ => "a reason that this program does not know",
    }
}

fn failure(error: ConnectionError) -> Failure {
    match error {
        ConnectionError::MqttState(StateError::Io(error))
        | ConnectionError::MqttState(StateError::Deserialization(PacketError::Io(error)))
        | ConnectionError::Tls(TlsError::Io(error))
        | ConnectionError::Io(error) => Failure::Io(error),
        ConnectionError::MqttState(StateError::ConnectionAborted) => Failure::Closed,
        ConnectionError::MqttState(StateError::AwaitPingResp) => Failure::Silent,
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            let said = reason_string.map_or_else(String::new, |said| format!(" ({said})"));
            match reason_code {
                DisconnectReasonCode::UseAnotherServer => Failure::Moved { is_for_good: false, to: None },
                DisconnectReasonCode::ServerMoved => Failure::Moved { is_for_good: true, to: None },
                other => Failure::Disconnected { reason: other as u8, text: format!("{other:?}{said}") },
            }
        }
        ConnectionError::MqttState(StateError::ConnFail { reason }) | ConnectionError::ConnectionRefused(reason) => {
            match reason {
                ConnectReturnCode::UseAnotherServer => Failure::Moved { is_for_good: false, to: None },
                ConnectReturnCode::ServerMoved => Failure::Moved { is_for_good: true, to: None },
                other => Failure::Refused(refusal(other)),
            }
        }
        ConnectionError::MqttState(StateError::Deserialization(PacketError::InvalidConnectReturnCode(reason)))
            if reason >= REFUSALS =>
        {
            Failure::UnreadableRefusal { reason, text: reason_text(reason) }
        }
        ConnectionError::Timeout(_) => Failure::TimedOut,
        other => Failure::Protocol(other.to_string()),
    }
}

/// Reasons of a CONNACK (MQTT 5, 3.2.2.2).
fn refusal(code: ConnectReturnCode) -> Refusal {
    match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::BadAuthenticationMethod => Refusal::BadCredentials,
        ConnectReturnCode::NotAuthorized | ConnectReturnCode::Banned => Refusal::NotAuthorised,
        ConnectReturnCode::BadClientId | ConnectReturnCode::ClientIdentifierNotValid => Refusal::ClientId,
        ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::UnsupportedProtocolVersion => Refusal::Version,
        ConnectReturnCode::RetainNotSupported => Refusal::Retain,
        ConnectReturnCode::QoSNotSupported => Refusal::Qos,
        other => Refusal::Other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::v5::mqttbytes::v5::Packet;
    use tokio_util::bytes::Bytes;

    use super::*;

    #[test]
    fn the_size_of_a_packet_is_what_goes_over_the_wire() {
        for length in [0, 1, 127, 128, 16_383, 100_000] {
            let message = Message {
                topic: "lineside/v1/lyon/gw-01/batch".to_owned(),
                payload: Bytes::from(vec![0; length]),
                retain: true,
                content_type: Some("application/json"),
                expiry: Some(Duration::from_secs(60)),
                correlation_data: Some(Bytes::from(vec![7; length % 100])),
            };
            let mut publish =
                Publish::new(&message.topic, QoS::AtLeastOnce, message.payload.clone(), Some(properties(&message)));
            publish.pkid = 513;
            let mut wire = BytesMut::new();
            Packet::Publish(publish).write(&mut wire, None).unwrap();

            assert_eq!(packet_size(&message), wire.len());
        }
    }
}
