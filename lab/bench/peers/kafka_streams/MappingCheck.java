import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Base64;

/** Maps the raw records of standard input, a JSON object a line, and prints keys and values. */
public final class MappingCheck {
  private MappingCheck() {}

  /** Take the schema's id and the tolerance of clocks in ms. */
  public static void main(String[] arguments) throws IOException {
    Hub88Mapping mapping =
        new Hub88Mapping(Integer.parseInt(arguments[0]), Long.parseLong(arguments[1]));
    ObjectMapper json = new ObjectMapper();
    Base64.Encoder base64 = Base64.getEncoder();
    BufferedReader lines =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      JsonNode record = json.readTree(line);
      byte[][] headers = new byte[Hub88Mapping.HEADERS.length][];
      for (int index = 0; index < headers.length; index++) {
        JsonNode header = record.get("headers").get(Hub88Mapping.HEADERS[index]);
        headers[index] = header == null ? null : header.binaryValue();
      }
      Hub88Mapping.Event event =
          mapping.map(
              record.get("topic").asText(),
              record.get("partition").asInt(),
              record.get("offset").asLong(),
              record.get("timestamp").asLong(),
              record.get("value").binaryValue(),
              headers);
      System.out.println(
          base64.encodeToString(event.key) + " " + base64.encodeToString(event.value));
    }
  }
}
