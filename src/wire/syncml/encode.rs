//! Types to bytes, in the order that the document type demands.

use crate::wire::xml::Writer;

use super::types::{Address, Alert, Command, Cred, Data, Group, Header, Item, Meta, Operation, Results, Status, SyncMl};
use super::{METINF, MICROSOFT};

impl SyncMl {
    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(512 + 256 * self.body.len());
        w.declaration().open("SyncML").attribute("xmlns", self.dtd.namespace());
        header(&mut w, &self.header);
        w.open("SyncBody");
        if self.microsoft || self.body.iter().any(Command::carries_original_error) {
            w.attribute("xmlns:msft", MICROSOFT);
        }
        for one in &self.body {
            command(&mut w, one);
        }
        if self.last {
            w.open("Final").close();
        }
        w.finish()
    }
}

impl Command {
    /// How many bytes the command adds to a message.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let mut w = Writer::with_capacity(512);
        command(&mut w, self);
        w.len()
    }

    pub(super) fn carries_original_error(&self) -> bool {
        matches!(self, Self::Status(Status { original_error: Some(_), .. }))
    }
}

fn header(w: &mut Writer<'static>, header: &Header) {
    w.open("SyncHdr").leaf("VerDTD", &header.ver_dtd).leaf("VerProto", &header.ver_proto);
    w.leaf("SessionID", &header.session_id).leaf("MsgID", &header.msg_id.to_string());
    address(w, "Target", &header.target);
    address(w, "Source", &header.source);
    if let Some(Cred { meta: about, data }) = &header.cred {
        w.open("Cred");
        meta(w, about);
        w.leaf("Data", data).close();
    }
    meta(w, &header.meta);
    w.close();
}

fn address(w: &mut Writer<'static>, element: &'static str, address: &Address) {
    w.open(element).leaf("LocURI", &address.uri);
    optional(w, "LocName", address.name.as_deref());
    w.close();
}

fn optional(w: &mut Writer<'static>, element: &'static str, text: Option<&str>) {
    if let Some(text) = text {
        w.leaf(element, text);
    }
}

fn meta(w: &mut Writer<'static>, meta: &Meta) {
    if meta.is_empty() {
        return;
    }
    w.open("Meta");
    let mut part = |element: &'static str, text: &str| {
        w.open(element).attribute("xmlns", METINF).text(text).close();
    };
    if let Some(format) = meta.format {
        part("Format", format.as_str());
    }
    if let Some(kind) = &meta.kind {
        part("Type", kind);
    }
    if let Some(mark) = &meta.mark {
        part("Mark", mark);
    }
    if let Some(size) = meta.size {
        part("Size", &size.to_string());
    }
    if let Some(nonce) = &meta.next_nonce {
        part("NextNonce", nonce);
    }
    if let Some(size) = meta.max_msg_size {
        part("MaxMsgSize", &size.to_string());
    }
    if let Some(size) = meta.max_obj_size {
        part("MaxObjSize", &size.to_string());
    }
    w.close();
}

fn command(w: &mut Writer<'static>, one: &Command) {
    match one {
        Command::Alert(inner) => alert(w, inner),
        Command::Atomic(inner) => group(w, "Atomic", inner),
        Command::Operation(inner) => operation(w, inner),
        Command::Results(inner) => results(w, inner),
        Command::Sequence(inner) => group(w, "Sequence", inner),
        Command::Status(inner) => status(w, inner),
        Command::Unsupported(what, id) => {
            w.open(what.as_str());
            optional(w, "CmdID", id.as_deref());
            w.close();
        }
    }
}

fn alert(w: &mut Writer<'static>, alert: &Alert) {
    w.open("Alert");
    optional(w, "CmdID", alert.id.as_deref());
    w.leaf("Data", &alert.code.to_string());
    optional(w, "Correlator", alert.correlator.as_deref());
    items(w, &alert.items);
    w.close();
}

fn group(w: &mut Writer<'static>, element: &'static str, group: &Group) {
    w.open(element);
    optional(w, "CmdID", group.id.as_deref());
    meta(w, &group.meta);
    for one in &group.commands {
        command(w, one);
    }
    w.close();
}

fn operation(w: &mut Writer<'static>, operation: &Operation) {
    w.open(operation.verb.as_str());
    optional(w, "CmdID", operation.id.as_deref());
    meta(w, &operation.meta);
    optional(w, "Correlator", operation.correlator.as_deref());
    items(w, &operation.items);
    w.close();
}

fn results(w: &mut Writer<'static>, results: &Results) {
    w.open("Results");
    optional(w, "CmdID", results.id.as_deref());
    w.leaf("MsgRef", &results.msg_ref.to_string()).leaf("CmdRef", &results.cmd_ref);
    meta(w, &results.meta);
    optional(w, "TargetRef", results.target_ref.as_deref());
    optional(w, "SourceRef", results.source_ref.as_deref());
    items(w, &results.items);
    w.close();
}

fn status(w: &mut Writer<'static>, status: &Status) {
    w.open("Status");
    optional(w, "CmdID", status.id.as_deref());
    w.leaf("MsgRef", &status.msg_ref.to_string()).leaf("CmdRef", &status.cmd_ref).leaf("Cmd", &status.cmd);
    for target in &status.target_refs {
        w.leaf("TargetRef", target);
    }
    for source in &status.source_refs {
        w.leaf("SourceRef", source);
    }
    if let Some(challenge) = &status.chal {
        w.open("Chal");
        meta(w, challenge);
        w.close();
    }
    w.open("Data");
    if let Some(error) = &status.original_error {
        w.attribute("msft:originalerror", error);
    }
    w.text(&status.code.to_string()).close();
    items(w, &status.items);
    w.close();
}

fn items(w: &mut Writer<'static>, items: &[Item]) {
    for item in items {
        w.open("Item");
        if let Some(target) = &item.target {
            address(w, "Target", target);
        }
        if let Some(source) = &item.source {
            address(w, "Source", source);
        }
        meta(w, &item.meta);
        match &item.data {
            None => {}
            Some(Data::Text(text)) => {
                w.leaf("Data", text);
            }
            Some(Data::Markup(markup)) => {
                w.open("Data").raw(markup.as_str()).close();
            }
        }
        if item.more {
            w.open("MoreData").close();
        }
        w.close();
    }
}
