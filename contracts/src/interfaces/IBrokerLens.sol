// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {IBrokerRequests} from "./IBrokerRequests.sol";

/// @title What one eth_call with BrokerLens's creation code answers.
/// @notice `snapshot` exists nowhere on chain. It is the shape of the arguments and of the result, for tools that decode
/// by ABI: call with `data = creationCode || abi.encode(arguments)`, no `to`; decode as the result of `snapshot`.
interface IBrokerLens {
    /// @param blockNumber Block the call ran in.
    /// @param timestamp Unix seconds of that block.
    /// @param requestCount getRequestCount().
    /// @param releaseCount releaseCount(); 0 in generations 1 and 2, which do not count releases.
    /// @param requestFee Wei; 0 in generations 1 and 2.
    /// @param generation 1 or 2: the contracts in the field; 3: this one.
    /// @param operatorBalance Wei held by `operator`.
    /// @param expirationTime requestExpirationTime(), seconds.
    /// @param owner owner() of the requests contract: who may answer.
    /// @param requests The requests after `cursor` in order of id, without gap. Fewer than asked for when the answer
    /// would exceed 24,576 bytes or the gas runs low: continue from the last id returned. At least one if there is one.
    /// @param watched One per watchIds, in the same order.
    struct Snapshot {
        uint256 blockNumber;
        uint256 timestamp;
        uint256 chainId;
        uint256 requestCount;
        uint256 releaseCount;
        uint256 requestFee;
        uint256 generation;
        uint256 operatorBalance;
        uint256 expirationTime;
        address owner;
        RequestView[] requests;
        WatchView[] watched;
    }

    /// @param payload encryptedPayload; empty when it is longer than 4096 bytes (possible only in generations 1 and 2).
    /// @param digest IBrokerRequests.requestDigest, computed from the fields for every generation.
    /// @param mapped Whether nftContractToRequestId(nftContract) is this request.
    /// @param codeHash EXTCODEHASH of nftContract.
    /// @param isErc721 Whether nftContract claims ERC-721 through ERC-165, within 100,000 gas.
    /// @param nftOwner owner() of nftContract; zero when it gives no answer within 100,000 gas.
    struct RequestView {
        uint256 id;
        address requester;
        address nftContract;
        bytes payload;
        IBrokerRequests.RequestStatus status;
        uint256 submittedAt;
        bytes32 digest;
        bool mapped;
        bytes32 codeHash;
        bool isErc721;
        address nftOwner;
    }

    /// @param exists Whether the contract has a request of this id; everything else is zero if not.
    /// @param mappedId The live request of the same NFT contract: this one, a newer one, or 0 after a release.
    struct WatchView {
        uint256 id;
        bool exists;
        IBrokerRequests.RequestStatus status;
        bytes32 digest;
        uint256 mappedId;
    }

    /// @notice Nothing lives at this address in the block the call ran in.
    error NoContract(address requests);
    /// @notice The contract is of the generation that stores no answers (capacityStatus() replies).
    error UnsupportedGeneration(address requests);
    /// @notice Split the list over several calls.
    error TooManyWatched(uint256 count, uint256 max);
    /// @notice The endpoint gives a call so little gas that not one request could be looked at.
    error NotEnoughGas(uint256 left, uint256 needed);

    /// @param requests A BrokerRequests of generation 1, 2 or 3.
    /// @param cursor Highest request id already known; 0 at the start.
    /// @param max Requests wanted at most; any number.
    /// @param watchIds Requests whose state is wanted again; at most 120.
    /// @param operator Wallet whose balance is wanted.
    function snapshot(address requests, uint256 cursor, uint256 max, uint256[] calldata watchIds, address operator)
        external
        view
        returns (Snapshot memory);
}
