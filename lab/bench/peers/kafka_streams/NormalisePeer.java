import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;

/**
 * A peer of {@code pitboss bench normalise --peers}: the same mapping in Kafka Streams, one thread.
 *
 * <p>Its one argument is JSON: {@code group}, {@code source}, {@code sink}, {@code state_dir}, {@code
 * schema_id}, {@code tolerance_ms}, and {@code client}, further settings of every client. Settings
 * are defaults otherwise, but the group is left at the end, so that the next run need not wait.
 */
public final class NormalisePeer {
  private NormalisePeer() {}

  /** Run until the process is terminated, or its standard input ends. */
  public static void main(String[] arguments) throws IOException {
    JsonNode settings = new ObjectMapper().readTree(arguments[0]);
    Properties properties = new Properties();
    properties.put(StreamsConfig.APPLICATION_ID_CONFIG, settings.get("group").asText());
    properties.put(StreamsConfig.STATE_DIR_CONFIG, settings.get("state_dir").asText());
    properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    properties.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
    properties.put(StreamsConfig.consumerPrefix("internal.leave.group.on.close"), true);
    settings
        .get("client")
        .properties()
        .forEach(entry -> properties.put(entry.getKey(), entry.getValue().asText()));
    KafkaStreams streams = new KafkaStreams(topology(settings), properties);
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          Runtime.getRuntime().halt(1);
          return null;
        });
    Runtime.getRuntime()
        .addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(20)), "close"));
    streams.start();
    while (System.in.read() >= 0) {
      // Nothing is sent; its end is that of the parent.
    }
    System.exit(0);
  }

  private static Topology topology(JsonNode settings) {
    var bytes = Serdes.ByteArray();
    int schemaId = settings.get("schema_id").asInt();
    long toleranceMs = settings.get("tolerance_ms").asLong();
    StreamsBuilder builder = new StreamsBuilder();
    builder.stream(settings.get("source").asText(), Consumed.with(bytes, bytes))
        .process(() -> new Normalise(new Hub88Mapping(schemaId, toleranceMs)))
        .to(settings.get("sink").asText(), Produced.with(bytes, bytes));
    return builder.build();
  }

  private static final class Normalise implements Processor<byte[], byte[], byte[], byte[]> {
    private final Hub88Mapping mapping;
    private final byte[][] headers = new byte[Hub88Mapping.HEADERS.length][];
    private ProcessorContext<byte[], byte[]> context;

    Normalise(Hub88Mapping mapping) {
      this.mapping = mapping;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
      this.context = context;
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      RecordMetadata place = context.recordMetadata().orElseThrow();
      readHeaders(record.headers());
      Hub88Mapping.Event event =
          mapping.map(
              place.topic(),
              place.partition(),
              place.offset(),
              record.timestamp(),
              record.value(),
              headers);
      context.forward(
          record.withKey(event.key).withValue(event.value).withHeaders(new RecordHeaders()));
    }

    private void readHeaders(Headers given) {
      for (int index = 0; index < headers.length; index++) {
        Header header = given.lastHeader(Hub88Mapping.HEADERS[index]);
        headers[index] = header == null ? null : header.value();
      }
    }
  }
}
