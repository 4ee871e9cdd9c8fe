//! MQTT 3.1.1: the client library's types stop here.

use rumqttc::mqttbytes::Error as PacketError;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event as ClientEvent, EventLoop, LastWill, MqttOptions,
    NetworkOptions, Outgoing, Packet, Publish, QoS, StateError, SubscribeFilter, SubscribeReasonCode, TlsConfiguration,
    TlsError, Transport,
};

use super::connection::{
    Answer, CLIENT_QUEUE, CLIENT_TIMEOUT_S, Event, Opening, SEND_BUFFER_BYTES, Stay, Subscription, Unsendable, Up,
};
use super::failure::{Failure, Refusal};
use super::message::{Message, Received};
use super::state::BrokerLimits;

pub(super) struct Sender(AsyncClient);

pub(super) struct Events {
    event_loop: Box<EventLoop>,
    /// What the client gave up on, told after the events it had still read.
    ended: Option<Failure>,
    limits: BrokerLimits,
    packet_ids: u16,
}

pub(super) fn open(opening: Opening<'_>) -> (Sender, Events) {
    let settings = opening.settings;
    let packet_ids = opening.packet_ids();
    let max_packet = usize::try_from(settings.max_packet).unwrap_or(usize::MAX);
    let mut options = MqttOptions::new(&settings.client_id, opening.host(), settings.port);
    options
        .set_keep_alive(settings.keep_alive())
        .set_clean_session(opening.stay == Stay::Visit)
        .set_inflight(packet_ids)
        .set_max_packet_size(max_packet, max_packet);
    if let Stay::Lasting { retain } = opening.stay {
        let (will, retain) = (&settings.will, retain && settings.will.retain);
        options.set_last_will(LastWill::new(&will.topic, will.payload.clone(), QoS::AtLeastOnce, retain));
    }
    if let Some(username) = &settings.username {
        options.set_credentials(username, opening.password);
    }
    if let Some(tls) = opening.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    }
    let (client, mut event_loop) = AsyncClient::new(options, CLIENT_QUEUE);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_tcp_send_buffer_size(SEND_BUFFER_BYTES);
    network.set_connection_timeout(CLIENT_TIMEOUT_S);
    event_loop.set_network_options(network);
    let limits = BrokerLimits {
        max_packet: settings.max_packet,
        aim_packet: settings.max_packet,
        in_flight: settings.in_flight,
        retain_available: true,
        keep_alive_s: u16::try_from(settings.keep_alive().as_secs()).unwrap_or(u16::MAX),
        session_expiry_s: None,
        assigned_client_id: None,
    };
    (Sender(client), Events { event_loop: Box::new(event_loop), ended: None, limits, packet_ids })
}

/// Bytes of `message` on the wire.
pub(super) fn packet_size(message: &Message) -> usize {
    let mut publish = Publish::from_bytes(&message.topic, QoS::AtLeastOnce, message.payload.clone());
    publish.pkid = 1;
    publish.size()
}

impl Sender {
    pub(super) fn publish(&self, message: Message) -> Result<(), Unsendable> {
        let Message { topic, payload, retain, .. } = message;
        self.0.try_publish(topic, QoS::AtLeastOnce, retain, payload).map_err(|_| Unsendable)
    }

    pub(super) fn subscribe(&self, subscriptions: &[Subscription]) -> Result<(), Unsendable> {
        let filters = subscriptions.iter().map(|subscription| {
            let qos = if subscription.lasting { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            SubscribeFilter::new(subscription.filter.clone(), qos)
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
            Some(event) => Ok(self.translate(event)),
            None => Err(self.ended.take().unwrap_or(Failure::Closed)),
        }
    }

    fn translate(&self, event: ClientEvent) -> Event {
        match event {
            ClientEvent::Incoming(Packet::ConnAck(connack)) => Event::Up(Up {
                session_present: connack.session_present,
                limits: self.limits.clone(),
                packet_ids: u64::from(self.packet_ids),
                takes_qos_1: true,
            }),
            ClientEvent::Incoming(Packet::PubAck(puback)) => Event::Answered(puback.pkid, Answer::Taken),
            ClientEvent::Incoming(Packet::SubAck(suback)) => Event::Subscribed {
                id: suback.pkid,
                refused: suback
                    .return_codes
                    .iter()
                    .enumerate()
                    .filter(|(_, code)| matches!(code, SubscribeReasonCode::Failure))
                    .map(|(position, _)| position)
                    .collect(),
            },
            ClientEvent::Incoming(Packet::Publish(publish)) => Event::Received(Received {
                topic: publish.topic,
                payload: publish.payload,
                retain: publish.retain,
                is_repeat: publish.dup,
                response_topic: None,
                correlation_data: None,
            }),
            ClientEvent::Outgoing(Outgoing::Publish(id)) => Event::Sent(id),
            ClientEvent::Outgoing(Outgoing::Subscribe(id)) => Event::SubscribeSent(id),
            ClientEvent::Outgoing(Outgoing::Unsubscribe(_)) => Event::UnsubscribeSent,
            ClientEvent::Outgoing(Outgoing::Disconnect) => Event::Disconnected,
            ClientEvent::Incoming(_) | ClientEvent::Outgoing(_) => Event::Other,
        }
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
        ConnectionError::ConnectionRefused(reason) => Failure::Refused(refusal(reason)),
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => Failure::TimedOut,
        other => Failure::Protocol(other.to_string()),
    }
}

/// Return codes of a CONNACK (MQTT 3.1.1, 3.2.2.3).
fn refusal(code: ConnectReturnCode) -> Refusal {
    match code {
        ConnectReturnCode::BadUserNamePassword => Refusal::BadCredentials,
        ConnectReturnCode::NotAuthorized => Refusal::NotAuthorised,
        ConnectReturnCode::BadClientId => Refusal::ClientId,
        ConnectReturnCode::RefusedProtocolVersion => Refusal::Version,
        ConnectReturnCode::ServiceUnavailable | ConnectReturnCode::Success => Refusal::Other(format!("{code:?}")),
    }
}
