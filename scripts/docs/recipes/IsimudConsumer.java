// A consumer in Java 17, with the JDK alone: every message once and in order,
// over cuts and restarts; or it is told that some were lost.
//
// usage: java IsimudConsumer.java URL PUBLISHER TOPIC      (URL: http://127.0.0.1:3000)

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.HttpURLConnection;
import java.net.URL;
import java.net.URLEncoder;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.BiConsumer;
import java.util.function.Consumer;
import java.util.function.Supplier;

import static java.nio.charset.StandardCharsets.UTF_8;

public class IsimudConsumer {
    /** Coming back is no use (the token is refused, say). */
    public static class FinalException extends RuntimeException {
        FinalException(int status) {
            super("isimud answers " + status);
        }
    }

    private final URL url;
    private final Supplier<String> token; // may be null
    private final BiConsumer<String, String> onMessage; // data, id
    private final Consumer<String> onReset; // messages may be lost: read the state again
    private String lastId = "";
    private long retryMs = 1000;

    public IsimudConsumer(String base, String publisher, String topic, Supplier<String> token,
            BiConsumer<String, String> onMessage, Consumer<String> onReset) throws IOException {
        url = new URL(base + "/sub?publisher=" + URLEncoder.encode(publisher, UTF_8)
                + "&topic=" + URLEncoder.encode(topic, UTF_8));
        this.token = token;
        this.onMessage = onMessage;
        this.onReset = onReset;
    }

    /** Ends by an interrupt, or with a FinalException. */
    public void run() throws InterruptedException {
        while (true) {
            try {
                read();
            } catch (IOException e) {
                // a cut, or nobody there: come back
            }
            Thread.sleep(retryMs / 2 + ThreadLocalRandom.current().nextLong(retryMs / 2 + 1)); // not all at once
        }
    }

    private void read() throws IOException {
        // java.net.http.HttpClient has no time-out for a body that falls silent.
        HttpURLConnection connection = (HttpURLConnection) url.openConnection();
        connection.setConnectTimeout(10_000);
        connection.setReadTimeout(90_000); // longer than twice PING_INTERVAL: the link is dead
        connection.setRequestProperty("Accept", "text/event-stream");
        if (!lastId.isEmpty())
            connection.setRequestProperty("Last-Event-ID", lastId);
        if (token != null)
            connection.setRequestProperty("Authorization", "Bearer " + token.get());
        int status = connection.getResponseCode();
        if (status == 400 || status == 401 || status == 403 || status == 404)
            throw new FinalException(status);
        if (status != 200)
            return;
        try (var lines = new BufferedReader(new InputStreamReader(connection.getInputStream(), UTF_8))) {
            String event = "", id = lastId;
            StringBuilder data = null;
            for (String line; (line = lines.readLine()) != null; ) {
                int colon = line.indexOf(':');
                String name = colon < 0 ? line : line.substring(0, colon);
                String value = colon < 0 ? "" : line.substring(colon + 1).replaceFirst("^ ", "");
                if (line.isEmpty()) { // the end of an event
                    if (event.equals("reset"))
                        onReset.accept(data.toString());
                    else if (data != null && !event.equals("close"))
                        onMessage.accept(data.toString(), id);
                    event = "";
                    data = null;
                    lastId = id; // only now: half an event is none
                } else if (name.equals("data")) {
                    data = data == null ? new StringBuilder(value) : data.append('\n').append(value);
                } else if (name.equals("event")) {
                    event = value;
                } else if (name.equals("id")) {
                    id = value;
                } else if (name.equals("retry")) {
                    retryMs = Long.parseLong(value);
                }
            }
        }
    }

    public static void main(String[] args) throws Exception {
        new IsimudConsumer(args[0], args[1], args[2], null,
                (data, id) -> System.out.println(data),
                reason -> System.out.println("reset")).run();
    }
}
