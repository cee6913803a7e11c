//! COPY on the wire: CopyData messages out, one for each row, and in, until the client ends or gives up.

use bytes::BufMut;
use bytes::BytesMut;

use crate::error::Error;
use crate::error::Result;
use crate::formats::copy::Options;
use crate::formats::copy::Writer;
use crate::server::pgwire::connection::Connection;
use crate::server::pgwire::connection::watch;
use crate::server::pgwire::frontend::Frontend;
use crate::server::pgwire::reply;
use crate::server::pgwire::rows::Sender;
use crate::server::pgwire::rows::Sent;
use crate::session::CopyIn;
use crate::session::Interrupt;
use crate::session::RowStream;
use crate::types::Column;

/// Appends a CopyData message.
pub(super) fn put_data(output: &mut BytesMut, bytes: &[u8]) {
    output.put_u8(b'd');
    output.put_u32(bytes.len() as u32 + 4);
    output.put_slice(bytes);
}

impl Connection {
    /// Sends the rows of a COPY.
    pub(super) async fn copy_out(
        &mut self,
        columns: std::sync::Arc<[Column]>,
        rows: RowStream,
        options: Options,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let mut writer = Writer::new(columns, options, self.zone()?);
        self.wire.put(reply::copy_out(writer.columns().len(), writer.is_binary()))?;
        writer.begin(|bytes| put_data(&mut self.wire.output, bytes));
        let mut sender = Sender::for_copy(writer, rows);
        let Sent::All(sent) = sender.send(&mut self.wire, interrupt, 0).await? else {
            return Err(Error::internal("a COPY ended at a limit that nobody set"));
        };
        sender.end(&mut self.wire);
        self.wire.put(reply::copy_done())?;
        self.wire.put(reply::complete(format!("COPY {sent}")))
    }

    /// Takes the data of a COPY. After an error what the client still sends is skipped: in the simple protocol as
    /// messages that nobody asked for, in the extended one up to Sync.
    pub(super) async fn copy_in(&mut self, mut copy: CopyIn, interrupt: &Interrupt) -> Result<()> {
        self.wire.put(reply::copy_in(copy.width(), copy.is_binary()))?;
        interrupt.guard(self.wire.flush()).await?;
        loop {
            match interrupt.guard(self.wire.read()).await? {
                Some(Frontend::CopyData(bytes)) => {
                    watch(&self.wire, interrupt, self.session.copy_data(&mut copy, &bytes)).await?;
                }
                Some(Frontend::CopyDone) => break,
                Some(Frontend::CopyFail(message)) => return Err(self.session.copy_failed(&copy, &message)),
                // Allowed in between, and without a meaning.
                Some(Frontend::Flush | Frontend::Sync) => {}
                Some(Frontend::Broken { error, .. }) => return Err(error),
                Some(
                    Frontend::Query(_)
                    | Frontend::Parse { .. }
                    | Frontend::Bind(_)
                    | Frontend::Describe { .. }
                    | Frontend::Execute { .. }
                    | Frontend::Close { .. }
                    | Frontend::Terminate
                    | Frontend::FunctionCall,
                ) => return Err(Error::protocol("unexpected message during COPY from stdin")),
                None => {
                    interrupt.raise(crate::session::Cause::ClientGone);
                    return Err(crate::session::Cause::ClientGone.error());
                }
            }
        }
        let tag = watch(&self.wire, interrupt, self.session.copy_done(copy)).await?;
        self.tell()?;
        self.wire.put(reply::complete(tag))
    }
}
